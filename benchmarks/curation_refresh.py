"""What a refresh of curation costs beside the first fill of its state.

``python benchmarks/curation_refresh.py [--rows 50000] [--increment 5000] [--workers 1] [--row-wise]`` generates rows of
about 1.2 KB as ``near_duplicates.py`` does, takes them into a new state, then takes in an increment: two thirds are new
rows, a sixth corrections of old ones, a sixth old texts under new ids; and a row is deleted for every 60 that come.
Cleaning and scrubbing are left out, since they cost the same for each row, but with ``--row-wise``.

Printed are, of both steps, the CPU seconds (all processes) of preparing the segment and of taking it in, and how much
of the latter are the state's own tables; the rows per CPU second of the listing of all kept rows; the size of the state
besides its rows; and the peak memory.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson
from measuring import cpu_seconds, measured
from planted_rows import generate


def write_increment(old: Path, new: Path, out: Path, rows: int) -> None:
    """Write the changed rows: new ones, corrections, and old texts under new ids."""
    sixth = rows // 6
    with old.open("rb") as olds, new.open("rb") as news, out.open("wb") as file:
        file.writelines(line for line, _ in zip(news, range(rows - 2 * sixth), strict=False))
        for number, line in zip(range(2 * sixth), olds, strict=False):
            row = orjson.loads(line)
            if number % 2:
                row["id"] = f"again:{number}"
            else:
                row["messages"][0]["content"] += f" Corrected {number}."
            file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))


def child(folder: str, rows: int, increment: int, workers: int, row_wise: bool) -> None:
    """Take both steps; print what they cost."""
    from medllm_ops.curation.prepare import prepare
    from medllm_ops.curation.settings import CurationSettings
    from medllm_ops.curation.state import state as module

    tables: list[float] = []
    take_in = module.take_in

    def timed(*arguments: Any) -> None:
        before = cpu_seconds()
        take_in(*arguments)
        tables.append(round(cpu_seconds() - before, 2))

    module.take_in = timed
    enabled = {"enabled": row_wise}
    settings = CurationSettings.model_validate({"clean": enabled, "scrub": enabled})
    work = Path(folder)
    deleted = [f"old:{rows // 2 + number:08}" for number in range(increment // 60)]
    steps = [("first fill", work / "old.jsonl", []), ("increment", work / "changed.jsonl", deleted)]
    report: dict[str, Any] = {}
    with module.CurationState.open(work / "state", settings, worker_count=workers) as state:
        for name, file, gone in steps:
            start, wall = cpu_seconds(), time.perf_counter()
            prepare([file], state.next_segment, settings, gone=gone, worker_count=workers)
            prepared = cpu_seconds()
            state.absorb()
            report[name] = {
                "prepare cpu s": round(prepared - start, 2),
                "absorb cpu s": round(cpu_seconds() - prepared, 2),
                "of it tables cpu s": tables[-1],
                "wall s": round(time.perf_counter() - wall, 2),
            }
        start = cpu_seconds()
        kept = sum(some.rows.num_rows for some in state.kept())
        report["listing, rows per cpu s"] = round(kept / max(cpu_seconds() - start, 1e-9))
        start = cpu_seconds()
        lines = sum(count.lines for count in state.counts())
        report["counting cpu s"] = round(cpu_seconds() - start, 2)
        report["kept"], report["lines"] = kept, lines
    for name in ("state.sqlite", "signatures"):
        files = [work / "state" / name, *(work / "state" / name).rglob("*")]
        report[f"{name} MB"] = round(sum(path.stat().st_size for path in files if path.is_file()) / 2**20, 1)
    print(json.dumps(report))


def main() -> None:
    """Generate, measure in a process of its own, print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=50_000)
    options.add_argument("--increment", type=int, default=5_000)
    options.add_argument("--workers", type=int, default=1)
    options.add_argument("--row-wise", action="store_true", help="clean and scrub, too")
    options.add_argument("--child", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.child:
        child(chosen.child, chosen.rows, chosen.increment, chosen.workers, chosen.row_wise)
        return
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        generate(work / "old.jsonl", chosen.rows, 1, "old")
        generate(work / "new.jsonl", chosen.increment, 2, "new")
        write_increment(work / "old.jsonl", work / "new.jsonl", work / "changed.jsonl", chosen.increment)
        command = [sys.executable, __file__, "--child", folder, *sys.argv[1:]]
        output, cost = measured(command)
    report = json.loads(output)
    first, later = report["first fill"], report["increment"]
    for step, rows in ((first, chosen.rows), (later, chosen.increment)):
        step["absorb microseconds a row"] = round(step["absorb cpu s"] / rows * 1e6, 1)
    report["increment, of the first fill"] = round(
        (later["prepare cpu s"] + later["absorb cpu s"]) / (first["prepare cpu s"] + first["absorb cpu s"]), 3
    )
    report["increment's rows, of the first fill's"] = round(chosen.increment / chosen.rows, 3)
    report["peak GB"] = cost["peak GB"]
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
