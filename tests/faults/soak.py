"""Kills at random, a line each: ``python -m faults.soak FOLDER`` (with ``tests`` on the path), or ``make soak``.

``FOLDER/soak.jsonl`` begins with the seed; each line after it tells what was killed where, what asking again gave, and
how long it took. Started again, it goes on at the next number, with the same seed: a number is always the same kill.
"""

from __future__ import annotations

import argparse
import random
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from faults.soak_files import WORKS, Done, kill_files
from faults.soak_processes import kill_child, kill_swift

KILLS, SWIFT_KILLS = 180, 20
AREAS = (*WORKS, "lease and supervisor")


def soak(
    folder: Path, seed: int | None = None, kills: int = KILLS, swift_kills: int = SWIFT_KILLS
) -> list[dict[str, Any]]:
    """Make the kills that are still to be made, and return the lines of all."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "soak.jsonl"
    if not log.is_file():
        _write(log, {"seed": secrets.randbelow(2**31) if seed is None else seed})
    first, *rows = (orjson.loads(line) for line in log.read_bytes().splitlines())
    print(f"seed {first['seed']}, {len(rows)} of {kills + swift_kills} done, log {log}", flush=True)
    for number in range(len(rows) + 1, kills + swift_kills + 1):
        area = AREAS[number % len(AREAS)] if number <= kills else "ms-swift"
        started = time.monotonic()
        done = _kill(area, folder / "work", random.Random(f"{first['seed']}:{number}"))
        row = {"number": number, "area": area, **asdict(done), "seconds": round(time.monotonic() - started, 2)}
        _write(log, row)
        rows.append(row)
        verdict = "right" if done.right else "WRONG"
        print(f"{number:3} {verdict} {area}: {done.what}, {done.where}: {done.again} ({row['seconds']} s)", flush=True)
    return rows


def _kill(area: str, work: Path, source: random.Random) -> Done:
    kinds: dict[str, Callable[[], Done]] = {
        "lease and supervisor": lambda: kill_child(work / "child", source),
        "ms-swift": lambda: kill_swift(work / "swift", source, lambda: _model(work / "model")),
    }
    try:
        return kinds[area]() if area in kinds else kill_files(area, work, source)
    except (Exception, SystemExit) as error:  # noqa: BLE001 (a line that says so, and on with the next)
        return Done("the soak itself", "", False, False, f"{type(error).__name__}: {error}"[:500])


def _model(folder: Path) -> Path:
    """The tiny model, made by a process of its own: this one forks, and must not have torch's threads."""
    if not folder.is_dir():
        subprocess.run([sys.executable, "-m", "medllm_ops.models.tiny", str(folder)], check=True, capture_output=True)
    return folder


def _write(log: Path, row: dict[str, Any]) -> None:
    with log.open("ab") as file:
        file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))


def summary(rows: list[dict[str, Any]]) -> str:
    """How many of each area were right, in one line."""
    parts = []
    for area in (*AREAS, "ms-swift"):
        mine = [row for row in rows if row["area"] == area]
        met = sum(row["killed"] for row in mine)
        parts.append(f"{area}: {sum(row['right'] for row in mine)} of {len(mine)} right ({met} met somebody alive)")
    return "; ".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill at random, and look whether it comes right.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--swift-kills", type=int, default=SWIFT_KILLS)
    arguments = parser.parse_args()
    rows = soak(arguments.folder.resolve(), arguments.seed, arguments.kills, arguments.swift_kills)
    print(summary(rows))
    sys.exit(0 if all(row["right"] for row in rows) else 1)


if __name__ == "__main__":
    main()
