"""Which process is which, and how all of a job's processes end.

A pid alone names nobody: pids are reused. A process is its pid with its start time. A job's processes are found
by a mark in their environment, because torch starts each rank in a session of its own and a launcher that was
killed leaves its children to init. What they start is theirs too, even if it cleared its environment.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

MARK = "MEDLLM_JOB_ID"
HOST = "MEDLLM_HOST"
GRACE_SECONDS = 10.0
# A process is within execve(2) for far less, also on a machine that is busy.
EXEC_SECONDS = 1.0


@cache
def host_name() -> str:
    """The name of this host or container: a pid says nothing without it.

    A pod is told the name of its job, which stays the same where another pod takes its place.
    """
    return os.environ.get(HOST) or socket.gethostname()


@cache
def boot_id() -> str:
    """Another one after each start of the machine; empty where the system does not tell."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.is_file() else ""


def _stat(pid: int, field: int) -> int:
    """A field of proc_pid_stat(5), counted from 1, by its number on that page.

    :raises OSError: if there is no such process, or no such page on this system.
    """
    # Behind the command's name, the second field, which may hold anything.
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    return int(text.rpartition(")")[2].split()[field - 3])


def _started(process: psutil.Process) -> float:
    """When a process started, by a clock that nobody can set: seconds since the boot, where the system tells."""
    try:
        return _stat(process.pid, 22) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError):
        return float(process.create_time())


def _in_exec(pid: int) -> bool:
    """Whether a process is within execve(2): it has memory already (field 23), and its environment no end (51)."""
    try:
        return _stat(pid, 23) > 0 and _stat(pid, 51) == 0
    except (OSError, IndexError):
        return False


def environment_of(process: psutil.Process) -> dict[str, str]:
    """The environment of a process; of one that was started this moment, as soon as the system shows it.

    Whoever starts a process goes on before that: its environment is empty then, and nobody would take it for theirs.

    :raises psutil.Error: if the process ended, or is another user's.
    """
    give_up = time.monotonic() + EXEC_SECONDS
    while not (environment := process.environ()) and time.monotonic() < give_up:
        if not _in_exec(process.pid):
            # Really empty, or shown since.
            return process.environ()
        time.sleep(0.001)
    return environment


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process for ever: its pid, its start time in seconds since the boot, and which boot, on which host.

    Not since the epoch: a clock that jumps moves the start of every process, and a job would seem dead.
    """

    pid: int
    started: float
    boot: str = ""
    host: str = ""

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity:
        """Identify a running process.

        :raises psutil.NoSuchProcess: if there is none with this pid.
        """
        return cls(pid, _started(psutil.Process(pid)), boot_id(), host_name())

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> ProcessIdentity:
        """Read back what :meth:`to_row` made."""
        return cls(int(row["pid"]), float(row["started"]), str(row.get("boot", "")), str(row.get("host", "")))

    def to_row(self) -> dict[str, Any]:
        """As JSON."""
        return {"pid": self.pid, "started": self.started, "boot": self.boot, "host": self.host}

    @property
    def here(self) -> bool:
        """Whether it runs, or ran, on this host, so that its pid says something."""
        return self.host in ("", host_name())

    def process(self) -> psutil.Process | None:
        """The live process, or None if it ended, is a zombie, or its pid now belongs to another."""
        if not self.here or self.boot not in ("", boot_id()):
            return None
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            # The start time is read in clock ticks: allow for the rounding.
            same = abs(_started(process) - self.started) < 0.05
            if same and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None

    def alive(self) -> bool:
        """Whether the process still runs."""
        return self.process() is not None


def marked_processes(job_id: str) -> Iterator[psutil.Process]:
    """Every process of this user that carries the job's mark in its environment, and every descendant of one.

    The oldest comes first, so the supervisor hears that the job is to end before its child can end for that reason.
    """
    found: dict[psutil.Process, float] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if environment_of(process).get(MARK) == job_id:
                for member in (process, *process.children(recursive=True)):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        found[member] = member.create_time()
    for process in sorted(found, key=lambda process: (found[process], process.pid)):
        with contextlib.suppress(psutil.Error, OSError):
            # A descendant with another mark is a job of its own.
            if process.status() != psutil.STATUS_ZOMBIE and environment_of(process).get(MARK, job_id) == job_id:
                yield process


def end_job(job_id: str, grace_seconds: float = GRACE_SECONDS, spare: Collection[int] = ()) -> int:
    """End every process of a job: SIGTERM, then SIGKILL after the grace; return how many there were.

    :param spare: pids to leave alone (the supervisor, when it cleans up after its own child).
    """
    ended: set[int] = set()
    # Processes fork while they are being ended, so look again until none is left.
    while found := [process for process in marked_processes(job_id) if process.pid not in spare]:
        for process in found:
            ended.add(process.pid)
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        _, stubborn = psutil.wait_procs(found, timeout=grace_seconds)
        for process in stubborn:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(stubborn, timeout=grace_seconds)
    return len(ended)
