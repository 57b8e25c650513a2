"""Jobs on this machine: each under a supervisor in a session of its own, found again after a crash."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from medllm_ops.compute.job import Job, JobError, JobResult, explain_exit_code
from medllm_ops.compute.processes import MARK, ProcessIdentity, end_job
from medllm_ops.files import write_json

POLL_SECONDS = 0.5


class LocalPlace:
    """Runs jobs as processes of this machine."""

    def run(self, job: Job, on_poll: Callable[[], Any] | None = None) -> JobResult:
        """Submit the job and wait for it; see :class:`medllm_ops.compute.job.Place`."""
        supervisor = self.submit(job)
        try:
            while supervisor is not None and supervisor.alive():
                if on_poll:
                    on_poll()
                time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            self.stop(job.id)
            raise
        if on_poll:
            on_poll()
        result = job.result()
        if result is None:
            end_job(job.id)
            raise JobError(f"job {job.id}: its supervisor was killed; log {job.log}")
        if result.exit_code != 0:
            reason = "it was stopped" if result.stopped else explain_exit_code(result.exit_code)
            raise JobError(f"job {job.id} failed ({reason}); log {job.log} ends:\n{job.log_tail()}")
        return result

    def submit(self, job: Job) -> ProcessIdentity | None:
        """Get or create: return the supervisor of the running job, or None if it has already ended well.

        A crash between submitting and waiting finds the same job again. What an earlier attempt left running
        under another configuration, or without its supervisor, is ended first.
        """
        job.directory.mkdir(parents=True, exist_ok=True)
        with FileLock(job.directory / ".lock"):
            if self.running(job.directory, job.key):
                return job.supervisor()
            result = job.result()
            if result and result.key == job.key and result.exit_code == 0:
                return None
            end_job(job.id)
            job.result_file.unlink(missing_ok=True)
            job.write()
            process = subprocess.Popen(
                [sys.executable, "-m", "medllm_ops.compute.supervisor", str(job.directory)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, MARK: job.id},
            )
            identity = ProcessIdentity.of(process.pid)
            write_json(job.directory / "supervisor.json", identity.to_row())
            return identity

    def running(self, directory: Path, key: str) -> bool:
        """Whether a live supervisor holds the job; see :class:`medllm_ops.compute.job.Place`."""
        if not (directory / "job.json").is_file():
            return False
        job = Job.read(directory)
        supervisor = job.supervisor()
        return job.key == key and supervisor is not None and supervisor.alive()

    def stop(self, job_id: str) -> None:
        """End the supervisor and everything that it started."""
        end_job(job_id)
