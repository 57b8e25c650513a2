"""The process that owns one running job: ``python -m medllm_ops.compute.supervisor DIRECTORY``.

It runs in a session of its own, so it outlives the worker that asked for the job and the trainer that started it, and
it is the one that writes down how the job ended. Imports little: it starts in a fraction of a second.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import IO

from medllm_ops.compute.job import Job, JobResult
from medllm_ops.compute.lease import Leases
from medllm_ops.compute.processes import MARK, ProcessIdentity, end_job
from medllm_ops.compute.spool import Spool
from medllm_ops.files import FULL, write_json

BEAT_SECONDS = 5.0
POLL_SECONDS = 0.5
# Kept back for the result of a job that fills the disk.
RESERVE_BYTES = 65_536


def start_supervisor(job: Job, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start the supervisor of a job, whose request lies in its directory, in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "medllm_ops.compute.supervisor", str(job.directory)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, **(environment or {}), MARK: job.id},
    )


def supervise(directory: Path, movable: bool = False) -> int:
    """Run the job of ``directory`` to its end, leave ``result.json``, and return its exit code.

    SIGTERM ends the job, and so does a wish in the spool: the result then says so, and its exit code is never 0.

    :param movable: SIGTERM alone says that this host is taken away, and not that nobody wants the job any more: the
        job has no result then, and can go on elsewhere.
    """
    job = Job.read(directory)
    spool = Spool()
    leases = Leases(spool.folder / "leases")
    entry = spool.find(job.id)
    myself = ProcessIdentity.of(os.getpid())
    supervisor_file = directory / "supervisor.json"
    started = time.monotonic()
    stopping = False

    def end() -> None:
        end_job(job.id, spare=[os.getpid()])

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal stopping
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stopping = True
        end()

    signal.signal(signal.SIGTERM, stop)
    if entry:
        leases.hand_over(job.id, myself)
        spool.started(entry, myself)
        # Somebody may have changed their mind while the job was taken.
        stopping = stopping or spool.stop_file(job.id).exists()
    write_json(supervisor_file, myself.to_row())
    reserve = directory / ".reserve"
    reserve.write_bytes(bytes(RESERVE_BYTES))
    exit_code = -int(signal.SIGTERM)
    with job.log.open("ab") as log:
        log.write(f"# {time.strftime('%Y-%m-%d %H:%M:%S')} {' '.join(job.argv)}\n".encode())
        log.flush()
        child = None if stopping else _start(job, log)
        if child is None:
            exit_code = exit_code if stopping else 127
        else:
            write_json(directory / "process.json", ProcessIdentity.of(child.pid).to_row())
            if stopping:  # before the child was there
                end()
            told = started
            while (code := _wait(child)) is None:
                if not stopping and spool.stop_file(job.id).exists():
                    stop(signal.SIGTERM, None)
                if time.monotonic() - told > BEAT_SECONDS:
                    told = time.monotonic()
                    _beat(supervisor_file)
            exit_code = code
    if stopping and exit_code == 0:
        # It ended itself when it was asked to, or ``end`` has taken its exit code: no success in any case.
        exit_code = -signal.SIGTERM
    # A launcher can end before its ranks do: whoever still carries the mark must not hold the GPU.
    end()
    # Before the result: a disk that is full must not keep the GPU.
    leases.release(job.id)
    reserve.unlink(missing_ok=True)
    if movable and stopping and not spool.stop_file(job.id).exists():
        return exit_code
    written = _write_result(job, JobResult(job.key, exit_code, time.monotonic() - started, stopping))
    if entry:
        spool.finish(job.id)
    return exit_code if written else exit_code or 1


def _write_result(job: Job, result: JobResult) -> bool:
    """Write down how the job ended; where the disk has no room even now, wait until it has.

    :return: whether that could be done; if not, the log says why.
    """
    while True:
        try:
            write_json(job.result_file, asdict(result))
            return True
        except OSError as error:
            if error.errno not in FULL:
                with contextlib.suppress(OSError), job.log.open("ab") as log:
                    log.write(f"cannot write the result of exit code {result.exit_code}: {error}\n".encode())
                return False
        time.sleep(POLL_SECONDS)


def _start(job: Job, log: IO[bytes]) -> subprocess.Popen[bytes] | None:
    """Start the job's command; where that is not possible, the log says why."""
    try:
        return subprocess.Popen(
            job.argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **job.environment, MARK: job.id},
            cwd=job.directory,
        )
    except OSError as error:
        log.write(f"cannot start {job.argv[0]}: {error}\n".encode())
        return None


def _wait(child: subprocess.Popen[bytes]) -> int | None:
    try:
        return child.wait(timeout=POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return None


def _beat(path: Path) -> None:
    """Show those who watch from another host that the supervisor lives."""
    with contextlib.suppress(OSError):  # removed by somebody: no reason to end a job
        os.utime(path)


if __name__ == "__main__":
    sys.exit(min(255, abs(supervise(Path(sys.argv[1])))))
