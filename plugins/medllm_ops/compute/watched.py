"""What all places share: jobs are found again before they are made, and watched through the files of their folder."""

from __future__ import annotations

import logging
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

from filelock import FileLock

from medllm_ops.compute.job import EXIT_LOST, Job, JobError, JobResult
from medllm_ops.compute.owner import TaskOwner
from medllm_ops.compute.processes import end_job
from medllm_ops.compute.spool import Entry, Spool
from medllm_ops.files import write_json

log = logging.getLogger(__name__)


class WatchedPlace(ABC):
    """A place whose jobs have an entry in the spool of the run volume.

    :param owner: the Airflow task that asks; the ids of its jobs are made of it.
    :param watch: called at every look at a job; what it raises ends the waiting, and not the job.
    """

    name: ClassVar[str]
    """What parameters call it."""

    def __init__(self, owner: TaskOwner | None = None, watch: Callable[[], None] | None = None) -> None:
        self.owner = owner
        self.watch = watch
        self.spool = Spool()

    @abstractmethod
    def ask_to_stop(self, job: Job) -> Entry | None:
        """Wish that the job ends, and return at once with where it stands; None if it has ended."""

    @abstractmethod
    def _stop(self, job: Job) -> None:
        """End a job of this place with everything that it started; return when it has ended.

        :raises JobError: if whoever has it does not answer.
        """

    @abstractmethod
    def _start(self, job: Job) -> None:
        """Bring a job on its way whose request lies in its directory."""

    @abstractmethod
    def _lives(self, job: Job, entry: Entry) -> bool:
        """Whether a job without a result still has to end."""

    @abstractmethod
    def _look(self, job: Job, on_poll: Callable[[], Any] | None) -> JobResult:
        """Look until there is a result.

        :raises JobError: if there is neither a result nor any sign of life.
        """

    def _keep(self, job: Job) -> None:  # noqa: B027  most need nothing
        """Do what a job needs that was found again."""

    @abstractmethod
    def _check(self, job: Job) -> None:
        """Refuse a job that cannot run here.

        :raises MedllmError: with the remedy.
        """

    def run(self, job: Job, on_poll: Callable[[], Any] | None = None) -> JobResult:
        """Submit the job and wait for it; see :class:`medllm_ops.compute.job.Place`."""
        return self.wait(self.submit(job), on_poll)

    def wait(self, job: Job, on_poll: Callable[[], Any] | None = None) -> JobResult:
        """Wait for a job that was submitted; Ctrl-C ends it. See :class:`medllm_ops.compute.job.Place`.

        :raises JobError: if it failed, was stopped, or was ended for another one in its folder.
        """
        try:
            result = self._look(job, on_poll)
        except KeyboardInterrupt:
            self.stop(job.directory)
            raise
        self._check_still_ours(job)
        if on_poll:
            on_poll()
        if result.exit_code == EXIT_LOST:
            raise JobError(f"job {job.id}: its supervisor was killed; log {job.log}", "lost")
        if result.exit_code != 0:
            raise job.error(result)
        return result

    def _check_still_ours(self, job: Job) -> None:
        """What lies in the folder may be another job's, as after a user has cleared the task.

        :raises JobError: if it is: this one was ended for it.
        """
        now = Job.find(job.directory)
        if now is not None and now.id != job.id:
            raise job.error(_stopped(job))

    def submit(self, job: Job) -> Job:
        """Get or create: return the job as it runs, waits or has ended well in its directory.

        A crash between submitting and waiting finds the same job again. What works in the directory under another
        configuration, in another place, or for the same task before a user cleared it, is ended first.
        """
        self._check(job)
        job.directory.mkdir(parents=True, exist_ok=True)
        with FileLock(job.directory / ".lock"):
            if found := self._found(job.directory, job.key):
                log.info("job %s was found again", found.id)
                self._keep(found)
                return found
            if self.owner:
                job = replace(job, id=self.owner.job_id(job.key), owner=self.owner)
            job = replace(job, where=self.name)
            result = job.result()
            if result and result.key == job.key and result.exit_code == 0:
                # Another run of the task may have asked for it.
                return Job.find(job.directory) or job
            self.stop(job.directory)
            end_job(job.id)
            for path in (job.result_file, job.failure_file, job.directory / "supervisor.json"):
                path.unlink(missing_ok=True)
            job.write()
            self._start(job)
            log.info("job %s was submitted; its log: %s", job.id, job.log)
            return job

    def running(self, directory: Path, key: str) -> bool:
        """Whether the job of this directory waits or runs; see :class:`medllm_ops.compute.job.Place`."""
        return self._found(directory, key) is not None

    def stop(self, directory: Path) -> None:
        """End the job of this directory, in whatever place it is; see :class:`medllm_ops.compute.job.Place`."""
        from medllm_ops.compute.places import place_for

        for job in self._jobs_of(directory):
            place = self if job.where == self.name else place_for(job.where)
            place._stop(job)

    def _jobs_of(self, directory: Path) -> list[Job]:
        """The last job of a directory, and any that goes on there though its request was removed with the folder."""
        job = Job.find(directory)
        jobs = [job] if job else []
        for entry in (*self.spool.queued(), *self.spool.running()):
            if entry.directory == directory and not (job and entry.id == job.id):
                jobs.append(Job(entry.id, "", (), directory, where=self.name))
        return jobs

    def _found(self, directory: Path, key: str) -> Job | None:
        """The job in this directory, if it still has to end and is the one that is meant."""
        job = Job.find(directory)
        if job is None or job.key != key or job.where != self.name or job.result():
            return None
        if self.owner and self.owner.cleared_since(job.owner):
            return None
        entry = self.spool.find(job.id)
        if entry is None or entry.state == "ended":
            return None
        return job if self._lives(job, entry) else None


def write_stopped(job: Job) -> None:
    """Write down that a job was stopped, where nobody is left who could."""
    write_json(job.result_file, asdict(_stopped(job)))


def _stopped(job: Job) -> JobResult:
    return JobResult(job.key, -signal.SIGTERM, 0.0, stopped=True)
