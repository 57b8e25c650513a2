"""``where=kubernetes``: each job is a pod, or several, on the run volume that its task sees, too.

The pod's supervisor writes the same files as on a host of our own, and what they say decides. The API server makes
pods, says why one does not start, and tells that one is gone; while it does not answer, the job goes on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from filelock import FileLock

from medllm_ops.compute.job import Job, JobError, JobResult
from medllm_ops.compute.kubernetes.cluster import Cluster, ClusterError, connect
from medllm_ops.compute.kubernetes.follow import LogFollower
from medllm_ops.compute.kubernetes.manifests import Manifest, name_of, pod_of, several_of
from medllm_ops.compute.kubernetes.patience import Patience, silent_seconds
from medllm_ops.compute.kubernetes.settings import ClusterSettings, read_settings
from medllm_ops.compute.kubernetes.standing import Standing, standing_of, suspended
from medllm_ops.compute.owner import TaskOwner
from medllm_ops.compute.spool import Entry
from medllm_ops.compute.trainer import tell_waiting
from medllm_ops.compute.watched import WatchedPlace, write_stopped
from medllm_ops.errors import MedllmError

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
# While it runs, a job says so every few seconds.
FRESH_SECONDS = 60.0
# Beyond the pods' own time to end.
STOP_SECONDS = 60.0


class KubernetesPlace(WatchedPlace):
    """Runs jobs as pods.

    :param connect: how the API server is reached. :param tailor: a last hand on every pod before it is sent.
    """

    name = "kubernetes"

    def __init__(
        self,
        owner: TaskOwner | None = None,
        watch: Callable[[], None] | None = None,
        connect: Callable[[ClusterSettings], Cluster] = connect,
        tailor: Callable[[Manifest, ClusterSettings], Manifest] | None = None,
    ) -> None:
        super().__init__(owner, watch)
        self._connect = connect
        self._tailor = tailor
        self._login: tuple[ClusterSettings, Cluster] | None = None

    @property
    def settings(self) -> ClusterSettings:
        """The settings of the cluster; read when they are first needed."""
        return self._logged_in()[0]

    @property
    def cluster(self) -> Cluster:
        """The cluster; reached when it is first needed."""
        return self._logged_in()[1]

    def _logged_in(self) -> tuple[ClusterSettings, Cluster]:
        if self._login is None:
            settings = read_settings()
            self._login = settings, self._connect(settings)
        return self._login

    def ask_to_stop(self, job: Job) -> Entry | None:
        """Wish that the job ends, by a file that its pod looks for, and by the deletion of the pod."""
        entry = self.spool.find(job.id)
        if entry is None or entry.state == "ended":
            return None
        self.spool.ask_to_stop(job.id)
        try:
            self.cluster.delete(name_of(job.id))
        except MedllmError as error:
            log.warning("job %s: its pod ends by itself: %s", job.id, error)
        else:
            if job.supervisor() is None:
                # It had not started: nobody else will write down that it ends.
                self._write_end(job)
        return entry

    def _stop(self, job: Job) -> None:
        if self.ask_to_stop(job) is None:
            self._clear(job)
            return
        self._await_gone(job)
        # It may have been killed.
        self._write_end(job)

    def _write_end(self, job: Job) -> None:
        if job.result() is None:
            write_stopped(job)
        self.spool.finish(job.id, name_of(job.id))

    def _clear(self, job: Job) -> None:
        """Remove what is left of a job that has ended, and wait until it is gone."""
        self.cluster.delete(name_of(job.id))
        self._await_gone(job)

    def _await_gone(self, job: Job) -> None:
        deadline = time.monotonic() + self.settings.grace_seconds + STOP_SECONDS
        while self.cluster.pods(name_of(job.id)):
            if time.monotonic() > deadline:
                raise JobError(f"job {job.id}: the cluster has not removed its pod {name_of(job.id)}")
            time.sleep(POLL_SECONDS)

    def _check(self, job: Job) -> None:
        self.settings.check_writable(job.directory)

    def _start(self, job: Job) -> None:
        name = name_of(job.id)
        pod = pod_of(job, self.settings)
        if self._tailor:
            pod = self._tailor(pod, self.settings)
        self.spool.place(job, name)
        for manifest in several_of(job, pod) if job.nodes > 1 else [pod]:
            self.cluster.create(manifest)
        log.info("job %s is pod %s of namespace %s", job.id, name, self.settings.namespace)

    def _lives(self, job: Job, entry: Entry) -> bool:
        try:
            standing, _ = self._standing(job)
        except ClusterError as error:
            if error.passes and silent_seconds(job) < FRESH_SECONDS:
                return True
            raise
        return standing.state not in ("ended", "gone")

    def _standing(self, job: Job) -> tuple[Standing, list[Manifest]]:
        """Where a job stands, and its pods."""
        name = name_of(job.id)
        pods = self.cluster.pods(name)
        state = self.cluster.job_state(name) if job.nodes > 1 and not pods else "gone"
        if state == "suspended":
            return suspended(started=job.supervisor() is not None), pods
        return standing_of(pods, job.nodes, being_made=state == "making"), pods

    def _look(self, job: Job, on_poll: Callable[[], Any] | None) -> JobResult:
        patience = Patience(job, self.settings)
        with LogFollower(self.cluster) as follower:
            while (result := job.result()) is None or result.key != job.key:
                if on_poll:
                    on_poll()
                if self.watch:
                    self.watch()
                if patience.asks_now():
                    self._ask(job, patience, follower)
                time.sleep(POLL_SECONDS)
            self._follow(follower, job)
        self._settle(job, result)
        return result

    def _follow(self, follower: LogFollower, job: Job) -> None:
        """Show the log of a job that has ended sooner than its pod was looked at."""
        try:
            pods = self.cluster.pods(name_of(job.id))
        except ClusterError as error:
            log.warning("job %s has ended, and what its pod printed stays in %s: %s", job.id, job.log, error)
            return
        if pods:
            follower.follow(_first(pods))

    def _ask(self, job: Job, patience: Patience, follower: LogFollower) -> None:
        """Look at the pods once.

        :raises JobError: if nothing is to be expected of them any more.
        """
        try:
            standing, pods = self._standing(job)
            if standing.state == "starting":
                standing = self._with_warning(standing, job, pods)
        except ClusterError as error:
            if not error.passes:
                raise JobError(f"job {job.id}: {error}", "lost") from error
            patience.unanswered(str(error))
            return
        if standing.state == "running":
            follower.follow(_first(pods))
        tell_waiting(job.directory, standing.reason if standing.state in ("unplaced", "starting") else None)
        end = patience.judge(standing)
        if end is None:
            return
        # Who ends a job for another one in its folder holds this lock.
        with FileLock(job.directory / ".lock"):
            self._check_still_ours(job)
            # In this order: who ends it writes the result down before the wish goes.
            if self.spool.stop_file(job.id).exists():
                self._write_end(job)
                return
            if job.result():
                return
            if standing.taken_away and patience.replace():
                log.warning("job %s: %s; it goes on in another pod", job.id, standing.reason)
                self._clear(job)
                # It has not begun again yet.
                (job.directory / "supervisor.json").unlink(missing_ok=True)
                self._start(job)
                return
        tail = self._tail(pods)
        self._give_up(job)
        raise JobError(f"job {job.id}: {end.reason}; log {job.log}{tail}", end.cause, retry=end.retry)

    def _with_warning(self, standing: Standing, job: Job, pods: list[Manifest]) -> Standing:
        """Some reasons, such as a volume that cannot be mounted or a quota, are told by events alone."""
        pending = [pod for pod in pods if pod.get("status", {}).get("phase", "Pending") == "Pending"]
        warning = self.cluster.last_warning(pending[0]["metadata"]["name"] if pending else name_of(job.id))
        return Standing(standing.state, f"{standing.reason}; {warning}") if warning else standing

    def _tail(self, pods: list[Manifest]) -> str:
        """What a failed pod printed last: the only word where it could not even write into its folder."""
        try:
            said = self.cluster.log_tail(pods[0]["metadata"]["name"]) if pods else ""
        except ClusterError as error:
            log.warning("%s", error)
            return ""
        return f"; the pod's log ends:\n{said}" if said else ""

    def _give_up(self, job: Job) -> None:
        self.spool.ask_to_stop(job.id)
        try:
            self._clear(job)
        except MedllmError as error:
            log.warning("job %s: its pod is left: %s", job.id, error)
        else:
            self.spool.finish(job.id, name_of(job.id))

    def _settle(self, job: Job, result: JobResult) -> None:
        """Remove the pods of a job that has ended well or was stopped; a failed one's stay, to be looked at."""
        self.spool.finish(job.id, name_of(job.id))
        # It may have ended sooner than its pod was looked at again.
        tell_waiting(job.directory, None)
        try:
            if result.exit_code == 0 or result.stopped or job.nodes > 1:
                self._clear(job)
        except MedllmError as error:
            log.warning("job %s has ended, and its pod is left: %s", job.id, error)


def _first(pods: list[Manifest]) -> str:
    """The name of the pod whose log speaks for all."""
    return min(str(pod["metadata"]["name"]) for pod in pods)
