"""The process that owns one running job: ``python -m medllm_ops.compute.supervisor DIRECTORY``.

It runs in a session of its own, so it outlives the worker that asked for the job, and it is the one that writes
down how the job ended. Imports little: it starts in a fraction of a second.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from medllm_ops.compute.job import Job
from medllm_ops.compute.processes import MARK, ProcessIdentity, end_job
from medllm_ops.files import write_json


def supervise(directory: Path) -> int:
    """Run the job of ``directory`` to its end, leave ``result.json``, and return its exit code.

    SIGTERM ends the job: the result then says so, and its exit code is never 0.
    """
    job = Job.read(directory)
    environment = {**os.environ, **job.environment, MARK: job.id}
    started = time.monotonic()
    stopping = False

    def end() -> None:
        end_job(job.id, spare=os.getpid())

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal stopping
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stopping = True
        end()

    signal.signal(signal.SIGTERM, stop)
    with job.log.open("ab") as log:
        log.write(f"# {time.strftime('%Y-%m-%d %H:%M:%S')} {' '.join(job.argv)}\n".encode())
        log.flush()
        try:
            child = subprocess.Popen(
                job.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=directory,
            )
        except OSError as error:
            log.write(f"cannot start {job.argv[0]}: {error}\n".encode())
            exit_code = 127
        else:
            write_json(directory / "process.json", ProcessIdentity.of(child.pid).to_row())
            if stopping:  # before the child was there
                end()
            exit_code = child.wait()
    stopped = stopping
    if stopped and exit_code == 0:
        # It ended itself when it was asked to, or ``end`` has taken its exit code: no success in any case.
        exit_code = -signal.SIGTERM
    # A launcher can end before its ranks do: whoever still carries the mark must not hold the GPU.
    end()
    result = {
        "key": job.key,
        "exit_code": exit_code,
        "seconds": time.monotonic() - started,
        "stopped": stopped,
    }
    write_json(job.result_file, result)
    return exit_code


if __name__ == "__main__":
    sys.exit(min(255, abs(supervise(Path(sys.argv[1])))))
