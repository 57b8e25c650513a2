"""Jobs under a trainer: on this host, started on demand, or a service that shares the run volume."""

from __future__ import annotations

import logging
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from medllm_ops.compute.job import EXIT_LOST, Job, JobError, JobResult
from medllm_ops.compute.owner import TaskOwner
from medllm_ops.compute.processes import end_job, host_name
from medllm_ops.compute.settings import trainer_mode
from medllm_ops.compute.spool import Entry, Spool
from medllm_ops.compute.trainer import start_trainer, waiting_file
from medllm_ops.files import write_json

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
# A job without any sign of life from its host, or a queue without any trainer, is given up after so long.
SILENT_SECONDS = 600.0
STOP_SECONDS = 60.0
SETTLE_SECONDS = 15.0


class LocalPlace:
    """Runs jobs as processes of this host, or of the host of the trainer that shares its run volume.

    :param owner: the Airflow task that asks; the ids of its jobs are made of it.
    :param watch: called at every look at a job; what it raises ends the waiting, and not the job.
    """

    def __init__(self, owner: TaskOwner | None = None, watch: Callable[[], None] | None = None) -> None:
        self.owner = owner
        self.watch = watch
        self.spool = Spool()
        self._trainer: subprocess.Popen[bytes] | None = None

    def run(self, job: Job, on_poll: Callable[[], Any] | None = None) -> JobResult:
        """Submit the job and wait for it; see :class:`medllm_ops.compute.job.Place`."""
        return self.wait(self.submit(job), on_poll)

    def wait(self, job: Job, on_poll: Callable[[], Any] | None = None) -> JobResult:
        """Wait for a job that was submitted; Ctrl-C ends it. See :class:`medllm_ops.compute.job.Place`."""
        try:
            result = self._look(job, on_poll)
        except KeyboardInterrupt:
            self.stop(job.directory)
            raise
        if on_poll:
            on_poll()
        if result.exit_code == EXIT_LOST:
            raise JobError(f"job {job.id}: its supervisor was killed; log {job.log}", "lost")
        if result.exit_code != 0:
            raise job.error(result)
        return result

    def submit(self, job: Job) -> Job:
        """Get or create: return the job as it runs, waits or has ended well in its directory.

        A crash between submitting and waiting finds the same job again. What works in the directory under another
        configuration, or for the same task before a user cleared it, is ended first.
        """
        job.directory.mkdir(parents=True, exist_ok=True)
        with FileLock(job.directory / ".lock"):
            if found := self._found(job.directory, job.key):
                log.info("job %s was found again", found.id)
                self._start_trainer()
                return found
            if self.owner:
                job = replace(job, id=self.owner.job_id(job.key), owner=self.owner)
            result = job.result()
            if result and result.key == job.key and result.exit_code == 0:
                return job
            self.stop(job.directory)
            end_job(job.id)
            for path in (job.result_file, job.failure_file, job.directory / "supervisor.json"):
                path.unlink(missing_ok=True)
            job.write()
            self.spool.submit(job)
            self._start_trainer()
            log.info("job %s was submitted; its log: %s", job.id, job.log)
            return job

    def running(self, directory: Path, key: str) -> bool:
        """Whether the job of this directory waits or runs; see :class:`medllm_ops.compute.job.Place`."""
        return self._found(directory, key) is not None

    def stop(self, directory: Path) -> None:
        """End the job of this directory with everything that it started; return when it has ended.

        :raises JobError: if the host that has it does not answer.
        """
        for job in self._jobs_of(directory):
            self._stop(job)

    def _jobs_of(self, directory: Path) -> list[Job]:
        """The last job of a directory, and any that goes on there though its request was removed with the folder."""
        job = Job.find(directory)
        jobs = [job] if job else []
        for entry in (*self.spool.queued(), *self.spool.running()):
            if entry.directory == directory and not (job and entry.id == job.id):
                jobs.append(Job(entry.id, "", (), directory))
        return jobs

    def _stop(self, job: Job) -> None:
        deadline = time.monotonic() + STOP_SECONDS
        while (entry := self.ask_to_stop(job)) is not None:
            if entry.host == host_name() and entry.supervisor:
                end_job(job.id)
                if job.result() is None:
                    # It had to be killed.
                    _write_stopped(job)
                self.spool.finish(job.id)
            elif time.monotonic() > deadline:
                raise JobError(f"job {job.id} runs on {entry.host}, which has not ended it in {STOP_SECONDS:.0f} s")
            else:
                # Taken a moment ago: its supervisor will find the wish, or the next trainer that it has none.
                self._start_trainer()
            time.sleep(min(POLL_SECONDS, 0.1))
        self.spool.stop_file(job.id).unlink(missing_ok=True)
        end_job(job.id)

    def ask_to_stop(self, job: Job) -> Entry | None:
        """Wish that the job ends, and return at once with where it stands."""
        entry = self.spool.find(job.id)
        if entry is None or entry.state == "ended":
            return None
        self.spool.ask_to_stop(job.id)
        if self.spool.cancel(job.id):
            _write_stopped(job)
            self.spool.stop_file(job.id).unlink(missing_ok=True)
            return None
        entry = self.spool.find(job.id)
        return None if entry is None or entry.state == "ended" else entry

    def _found(self, directory: Path, key: str) -> Job | None:
        """The job in this directory, if it still has to end and is the one that is meant."""
        job = Job.find(directory)
        if job is None or job.key != key or job.result():
            return None
        if self.owner and self.owner.cleared_since(job.owner):
            return None
        entry = self.spool.find(job.id)
        if entry is None or entry.state == "ended":
            return None
        dead = entry.state == "running" and entry.supervisor and entry.host == host_name() and not entry.alive()
        return None if dead else job

    def _start_trainer(self) -> None:
        if trainer_mode() == "on-demand" and (self._trainer is None or self._trainer.poll() is not None):
            self._trainer = start_trainer(self.spool)

    def _look(self, job: Job, on_poll: Callable[[], Any] | None) -> JobResult:
        """Look until there is a result.

        :raises JobError: if there is neither a result nor any sign of life.
        """
        told, sign, since = "", "", time.monotonic()
        while (result := job.result()) is None or result.key != job.key:
            if on_poll:
                on_poll()
            if self.watch:
                self.watch()
            entry = self.spool.find(job.id)
            if entry is None or entry.state == "ended":
                # It moved there a moment ago; a folder that was removed under it has no result.
                if job.result() is None and time.monotonic() - since > 5:
                    raise JobError(f"job {job.id} has ended without a result: was {job.directory} removed?", "lost")
            else:
                self._start_trainer()
                reason = self._reason(job) if entry.state == "queued" else ""
                if reason and reason != told:
                    log.info("job %s %s", job.id, reason)
                told = reason
                now = self._sign(job, entry)
                if now != sign or entry.alive():
                    sign, since = now, time.monotonic()
                if time.monotonic() - since > SILENT_SECONDS:
                    who = f"{entry.host} gives" if entry.host else f"no trainer of {self.spool.folder} gives"
                    raise JobError(f"job {job.id}: {who} a sign of life; log {job.log}", "lost")
            time.sleep(POLL_SECONDS)
        self._settle(job)
        return result

    def _settle(self, job: Job) -> None:
        """Let the supervisor give back its lease and end: who starts the next job finds the GPU free."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < deadline:
            entry, supervisor = self.spool.find(job.id), job.supervisor()
            if (entry is None or entry.state != "running") and (supervisor is None or not supervisor.alive()):
                return
            time.sleep(min(POLL_SECONDS, 0.05))

    def _reason(self, job: Job) -> str:
        path = waiting_file(job.directory)
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    def _sign(self, job: Job, entry: Entry) -> str:
        """Something that changes as long as the trainer or the supervisor lives, on whatever host."""
        path = job.directory / "supervisor.json"
        beat = path.stat().st_mtime_ns if path.is_file() else 0
        return f"{entry.state} {beat} {[row['time'] for row in self.spool.trainers()]}"


def _write_stopped(job: Job) -> None:
    write_json(job.result_file, asdict(JobResult(job.key, -signal.SIGTERM, 0.0, stopped=True)))
