"""Wall and processor seconds of a command with everything that it starts, also what outlives it; for benchmarks."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds. ``wall`` is that of the command itself, ``processor`` that of all its descendants together."""

    wall: float
    processor: float


def measure(argv: Sequence[str], environment: Mapping[str, str], log: Path) -> Cost:
    """Run a command and wait for it and for all its descendants, which become children of this process (Linux).

    A trainer or a supervisor lives in a session of its own and may end after the command: its time counts all the same.

    :param log: gets its output.
    :raises RuntimeError: if it fails.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before = _children()
    started = time.perf_counter()
    with log.open("ab") as output:
        child = subprocess.Popen(argv, env={**os.environ, **environment}, stdout=output, stderr=subprocess.STDOUT)
        code = child.wait()
    wall = time.perf_counter() - started
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    if code:
        raise RuntimeError(f"exit code {code} of {' '.join(argv)}: {log.read_text(errors='replace')[-2000:]}")
    return Cost(wall, _children() - before)


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
