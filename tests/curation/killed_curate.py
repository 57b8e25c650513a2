"""Curation that is killed at many places and called again, each time in a process of its own.

``python killed_curate.py FILE EVALSET FOLDER PLACES`` prints, as JSON, how many events there are, and for each place
whether the process died and whether the dataset was the same in the end. An event is the opening, renaming or removal
of a file in the folder, or the opening of a database there.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import daft  # noqa: F401  (imported before processes part, so that each of them begins at once)

from medllm_ops.curation.curate import curate
from medllm_ops.curation.settings import check_settings
from medllm_ops.files import code_hash

EVENTS = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "sqlite3.connect")
SETTINGS = {"sample": {"total": 60}}


def count(folder: str, then: Callable[[int], None]) -> Callable[[], int]:
    """Call ``then`` with the number of each event; return what tells how many there were."""
    seen = 0

    def hook(event: str, values: tuple[Any, ...]) -> None:
        nonlocal seen
        if event in EVENTS and isinstance(values[0], str | os.PathLike) and str(values[0]).startswith(folder):
            seen += 1
            then(seen)

    sys.addaudithook(hook)
    return lambda: seen


def apart(work: Callable[[], int]) -> tuple[bool, int]:
    """Do something in a process of its own: whether it was killed, and what it returned (up to 2**31)."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            os.write(writing, str(work()).encode())
            status = 0
        finally:
            if status:
                traceback.print_exc()
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as answer:
        told = answer.read()
    _, status = os.waitpid(pid, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    if not killed and status:
        raise SystemExit(f"it failed: {status}")
    return killed, int(told or 0)


def main() -> None:
    """Kill it at each place, and look what is there after another call."""
    file, evalset, folder, places = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])

    def run(out: Path, die_at: int = 0) -> int:
        def die(number: int) -> None:
            if number == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

        seen = count(str(folder), die)
        curate([file], out, check_settings(SETTINGS, "settings"), evalsets=[evalset])
        return seen()

    # Known once for all processes: somebody may be at work on the code.
    code_hash()
    code_hash("curation")
    _, events = apart(lambda: run(folder / "whole"))
    whole = tree(folder / "whole")
    told = []
    for place in range(places):
        out = folder / f"killed{place}"
        died, _ = apart(lambda out=out, place=place: run(out, 1 + place * (events - 1) // max(1, places - 1)))  # type: ignore[misc]
        half = out.exists() and tree(out) != whole
        apart(lambda out=out: run(out))  # type: ignore[misc]
        told.append({"died": died, "half": half, "same": tree(out) == whole})
    left = sorted(path.name for path in folder.iterdir() if path.name.startswith("."))
    print(json.dumps({"events": events, "places": told, "left": left}))


def tree(folder: Path) -> dict[str, bytes]:
    """All files and what is in them."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


if __name__ == "__main__":
    main()
