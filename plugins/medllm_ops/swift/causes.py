"""Why a training ended badly, by what it printed and its exit code, and what may help."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medllm_ops.compute.job import explain_exit_code

CauseName = Literal[
    "memory",
    "port",
    "network",
    "disk",
    "long row",
    "rows",
    "arguments",
    "not a number",
    "stalled",
    "killed",
    "unknown",
]


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause.

    :param again: how often the training goes on by itself, from its last whole checkpoint.
    :param retry: whether a later try with nothing changed may end better.
    """

    name: CauseName
    sentence: str
    again: int = 0
    retry: bool = True


# The first that matches counts: a full disk is behind many other errors, and a network error behind none.
_PATTERNS: tuple[tuple[CauseName, str], ...] = (
    ("disk", r"No space left on device|Errno 28\b|Disk quota exceeded|Errno 122\b|PytorchStreamWriter failed writing"),
    (
        "memory",
        r"CUDA out of memory|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED|can't allocate memory"
        r"|Cannot allocate memory|^MemoryError",
    ),
    ("port", r"EADDRINUSE|[Aa]ddress already in use"),
    (
        "network",
        r"NCCL error|nccl(?:System|UnhandledCuda|Internal|Remote)Error|Watchdog caught collective operation timeout"
        r"|Connection closed by peer|Socket Timeout",
    ),
    ("long row", r"^(\[rank\d+\]: )?[\w.]*\bMaxLengthError: "),
    ("rows", r"^(\[rank\d+\]: )?[\w.]*\bDatasetGeneration(Cast)?Error: "),
)
_CAUSES: dict[CauseName, Cause] = {
    "disk": Cause("disk", "the disk is full; free some space and run it again: it goes on where it stood", retry=False),
    "memory": Cause("memory", "it ran out of memory", again=8),
    "port": Cause("port", "the port of its ranks was taken", again=3),
    "network": Cause("network", "its ranks lost each other (NCCL)", again=3),
    "long row": Cause(
        "long row",
        "a row has more tokens than max_length: raise max_length in the recipe, or export the dataset again",
        retry=False,
    ),
    "rows": Cause(
        "rows",
        "the rows of a file make no table: in each, a field must be there and of the same kind as in the first",
        retry=False,
    ),
}


def find_cause(exit_code: int, text: str, killed_for_memory: bool = False) -> Cause:
    """The cause of an attempt's end.

    :param text: what the attempt printed, or the end of it.
    :param killed_for_memory: the kernel has killed a process of this container for memory meanwhile.
    """
    for name, pattern in _PATTERNS:
        if re.search(pattern, text, re.MULTILINE):
            return _CAUSES[name]
    if killed_for_memory:
        return _CAUSES["memory"]
    sentence = explain_exit_code(exit_code)
    if exit_code == 2:
        return Cause("arguments", sentence, retry=False)
    if exit_code in (-9, -15, 241, 247):
        return Cause("killed", sentence)
    return Cause("unknown", sentence)


def memory_kills() -> int:
    """How often the kernel has killed for memory in this container (cgroup v2); 0 where it does not tell."""
    try:
        text = Path("/sys/fs/cgroup/memory.events").read_text(encoding="ascii")
    except OSError:
        return 0
    found = re.search(r"^oom_kill (\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else 0
