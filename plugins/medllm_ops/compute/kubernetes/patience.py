"""How long a task that waits for a job in the cluster puts up with what, and why it gives up at last."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from medllm_ops.compute.job import Job, JobError
from medllm_ops.compute.kubernetes.settings import ClusterSettings
from medllm_ops.compute.kubernetes.standing import Standing

log = logging.getLogger(__name__)

ASK_SECONDS = 5.0
# A pod has ended: for so long its result may still be on its way through a network volume's cache.
LATE_SECONDS = 60.0
# Neither the API server nor the job itself has said anything.
SILENT_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class End:
    """Why a job is given up."""

    reason: str
    cause: str = "lost"
    retry: bool = True


class Patience:
    """How long what may last, while one task waits for one job."""

    def __init__(self, job: Job, settings: ClusterSettings) -> None:
        self._job = job
        self._settings = settings
        self._state = ""
        self._told = ""
        self._asked = float("-inf")
        self._since = self._answered = time.monotonic()
        self._replaced = 0

    def asks_now(self) -> bool:
        """Whether it is time to look at the pods again."""
        now = time.monotonic()
        if now - self._asked < ASK_SECONDS:
            return False
        self._asked = now
        return True

    def replace(self) -> bool:
        """Whether a pod that was taken away is replaced once more."""
        self._replaced += 1
        self._state = ""
        return self._replaced <= self._settings.replacements

    def unanswered(self, said: str) -> None:
        """The API server did not answer.

        :raises JobError: if the job has not shown that it lives, either, for a long time.
        """
        self._tell(f"{said}; the job goes on")
        if min(time.monotonic() - self._answered, silent_seconds(self._job)) > SILENT_SECONDS:
            raise JobError(f"job {self._job.id}: neither it nor the API server gives a sign of life", "lost")

    def judge(self, standing: Standing) -> End | None:
        """Why to give up, if so."""
        now = self._answered = time.monotonic()
        if standing.state != self._state:
            self._state, self._since = standing.state, now
        self._tell(standing.reason)
        waited = now - self._since
        if standing.state == "unplaced" and waited > self._settings.node_wait_minutes * 60:
            return End(f"no node had room for {self._settings.node_wait_minutes:g} minutes: {standing.reason}")
        if standing.state == "starting" and waited > self._settings.start_minutes * 60:
            return End(f"it did not start for {self._settings.start_minutes:g} minutes: {standing.reason}")
        if standing.state in ("ended", "gone"):
            if standing.out_of_memory:
                return End(standing.reason, "memory", retry=False)
            # A pod that was taken away writes no result; any other one's may be late.
            if standing.taken_away or waited > LATE_SECONDS:
                return End(standing.reason or "its pod has ended without a result")
        return None

    def _tell(self, reason: str) -> None:
        if reason and reason != self._told:
            log.info("job %s: %s", self._job.id, reason)
        self._told = reason


def silent_seconds(job: Job) -> float:
    """How long the supervisor of a job has not said that it lives."""
    beat = job.directory / "supervisor.json"
    return time.time() - beat.stat().st_mtime if beat.is_file() else float("inf")
