"""Jobs under a trainer: on this host, started on demand, or a service that shares the run volume."""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Callable
from typing import Any

from medllm_ops.compute.job import Job, JobError, JobResult
from medllm_ops.compute.processes import end_job, host_name
from medllm_ops.compute.settings import trainer_mode
from medllm_ops.compute.spool import Entry
from medllm_ops.compute.trainer import start_trainer, waiting_file
from medllm_ops.compute.watched import WatchedPlace, write_stopped
from medllm_ops.errors import MedllmError

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
# A job without any sign of life from its host, or a queue without any trainer, is given up after so long.
SILENT_SECONDS = 600.0
STOP_SECONDS = 60.0
SETTLE_SECONDS = 15.0


class LocalPlace(WatchedPlace):
    """Runs jobs as processes of this host, or of the host of the trainer that shares its run volume."""

    name = "local"
    _trainer: subprocess.Popen[bytes] | None = None

    def _stop(self, job: Job) -> None:
        deadline = time.monotonic() + STOP_SECONDS
        while (entry := self.ask_to_stop(job)) is not None:
            if entry.host == host_name() and entry.supervisor:
                end_job(job.id)
                if job.result() is None:
                    # It had to be killed.
                    write_stopped(job)
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
            write_stopped(job)
            self.spool.stop_file(job.id).unlink(missing_ok=True)
            return None
        entry = self.spool.find(job.id)
        return None if entry is None or entry.state == "ended" else entry

    def _check(self, job: Job) -> None:
        if job.nodes > 1:
            raise MedllmError(f"job {job.id} wants {job.nodes} nodes: run it with where=kubernetes")

    def _start(self, job: Job) -> None:
        self.spool.submit(job)
        self._start_trainer()

    def _keep(self, job: Job) -> None:
        self._start_trainer()

    def _lives(self, job: Job, entry: Entry) -> bool:
        dead = entry.state == "running" and entry.supervisor and entry.host == host_name() and not entry.alive()
        return not dead

    def _start_trainer(self) -> None:
        if trainer_mode() == "on-demand" and (self._trainer is None or self._trainer.poll() is not None):
            self._trainer = start_trainer(self.spool)

    def _look(self, job: Job, on_poll: Callable[[], Any] | None) -> JobResult:
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
