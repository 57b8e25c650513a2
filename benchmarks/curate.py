"""What the whole of curation costs on generated rows with planted truth.

``python benchmarks/curate.py [--rows 200000] [--small 50000] [--workers 2] [--tokenizer FOLDER]`` generates rows of
about 1 KB, half English-like and half Chinese-like, as ``near_duplicates.py`` does (10 % exact and 10 % near duplicates
planted, 5 % borderline negatives), and an evaluation set of which every 500th row holds a question. Curation runs on
``--small`` and on ``--rows`` of them, each in a process of its own. Printed are

* for each phase seconds, CPU seconds of all processes, rows per CPU second, how many cores it kept busy, and the peak
  memory of all processes together (what each holds for itself; mapped files are the system's);
* what the larger run takes more for each row more: bytes of memory, and how much faster than the rows time and CPU
  seconds grow (1: as fast);
* what follows for 40 million rows on 24 GiB: memory, where it grows on as between the two sizes, and CPU hours;
* a reference of the same run: ``orjson`` alone, each line read and written again by one process;
* what became of the planted truth, and whether the counts balance.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import psutil
from measuring import family, private_bytes
from planted_rows import Texts, Truth, generate

FAR = 40_000_000
FAR_GIB = 24
EVERY = 500
QUESTIONS = 1_000


class Watch:
    """The CPU seconds and the memory of a process and all that it starts, looked at ten times a second."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._spent: dict[tuple[int, float], float] = {}
        self.peak = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._end.wait(0.1):
            self.look()

    def look(self) -> float:
        """The CPU seconds so far."""
        memory = 0
        for process in family(self._pid):
            try:
                times = process.cpu_times()
                self._spent[process.pid, process.create_time()] = times.user + times.system
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            memory += private_bytes(process)
        self.peak = max(self.peak, memory)
        return sum(self._spent.values())

    def stop(self) -> None:
        """Look no more."""
        self._end.set()
        self._thread.join()


def child(files: str, evalset: str, out: str, workers: int, tokenizer: str) -> None:
    """Curate, and tell when each phase is over."""
    from medllm_ops.curation import curate as module
    from medllm_ops.curation.settings import check_settings
    from medllm_ops.curation.state.state import CurationState

    def told(name: str, function: Any) -> Any:
        def call(*values: Any, **more: Any) -> Any:
            print(f"before {name}", flush=True)
            result = function(*values, **more)
            print(f"after {name}", flush=True)
            return result

        return call

    module.prepare = told("read, clean, scrub", module.prepare)
    CurationState.absorb = told("duplicates, sides", CurationState.absorb)  # type: ignore[method-assign]
    module.write_dataset = told("decontaminate, sample, write", module.write_dataset)
    settings = check_settings({"chunk": {"tokenizer": tokenizer or None}}, "settings")
    module.curate([Path(files)], Path(out), settings, evalsets=[Path(evalset)], worker_count=workers)


def measured(command: list[str]) -> dict[str, dict[str, float]]:
    """Run a child; of each phase and of the whole, what it took."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    watch, phases = Watch(process.pid), {}
    start, spent, begun = time.perf_counter(), 0.0, (0.0, 0.0)
    assert process.stdout
    for line in process.stdout:
        moment, name = line.strip().split(" ", 1)
        now, spent = time.perf_counter(), watch.look()
        if moment == "before":
            begun, watch.peak = (now, spent), 0
        else:
            phases[name] = {"s": now - begun[0], "cpu s": spent - begun[1], "peak": float(watch.peak)}
    watch.stop()
    if process.wait():
        raise SystemExit(f"{command[2:4]} failed")
    peak = max(phase["peak"] for phase in phases.values())
    return {**phases, "all": {"s": time.perf_counter() - start, "cpu s": spent, "peak": peak}}


def plant(rows: Path, folder: Path, seed: int) -> tuple[Path, set[str]]:
    """Write an evaluation set, and its questions at the end of every so many rows; return it, and their ids."""
    texts, planted = Texts(seed), set()
    languages = ["en", "zh"] * (QUESTIONS // 2)
    questions = [texts.write(texts.text(language)[:40], language, "") for language in languages]
    evalset = folder / "evalset.jsonl"
    evalset.write_bytes(b"".join(orjson.dumps({"question": text}) + b"\n" for text in questions))
    changed = folder / "planted.jsonl"
    with rows.open("rb") as lines, changed.open("wb") as file:
        for number, line in enumerate(lines):
            if number % EVERY == 0:
                row = orjson.loads(line)
                row["messages"][0]["content"] += "\n" + questions[number // EVERY % QUESTIONS]
                planted.add(row["id"])
                line = orjson.dumps(row) + b"\n"
            file.write(line)
    changed.replace(rows)
    return evalset, planted


def reference(rows: Path, folder: Path) -> float:
    """Rows per CPU second of reading and writing each line with orjson."""
    start, count = time.process_time(), 0
    with rows.open("rb") as lines, (folder / "copy.jsonl").open("wb") as file:
        for line in lines:
            file.write(orjson.dumps(orjson.loads(line), option=orjson.OPT_APPEND_NEWLINE))
            count += 1
    (folder / "copy.jsonl").unlink()
    return count / (time.process_time() - start)


def judge(out: Path, truth: Truth, planted: set[str], rows: int) -> dict[str, Any]:
    """What became of what was planted, and whether every row is accounted for."""
    removed = list(_rows(out / "removed.jsonl"))
    kept = {
        row["id"]: side for side in ("train", "val") for path in (out / side).glob("*.jsonl") for row in _rows(path)
    }
    duplicates = {row["id"]: row["kept"] for row in removed if "dedup" in row["step"]}
    group = {id_: duplicates.get(id_, id_) for id_ in truth.rows}
    judged = truth.judge(group, set(duplicates))
    overlaps = {row["id"] for row in removed if row["step"] == "decontaminate"}
    left = planted - {row["id"] for row in removed if row["step"] != "decontaminate"}
    return {
        "balance": len(kept) + len(removed) == rows,
        "train": sum(side == "train" for side in kept.values()),
        "val": sum(side == "val" for side in kept.values()),
        "recall of near": judged["recall of near"],
        "precision": judged["precision"],
        "planted questions found": f"{len(left & overlaps)} of {len(left)}",
        "overlaps that were not planted": len(overlaps - planted),
    }


def _rows(path: Path) -> Iterator[Any]:
    with path.open("rb") as lines:
        yield from map(orjson.loads, lines)


def run(rows: int, chosen: argparse.Namespace, work: Path) -> dict[str, dict[str, float]]:
    """Generate so many rows, curate them, print what it took."""
    source = work / "rows.jsonl"
    truth = generate(source, rows, chosen.seed, "a")
    evalset, planted = plant(source, work, chosen.seed + 1)
    floor = reference(source, work)
    out = work / "out"
    command = [sys.executable, __file__, "--child", str(source), str(evalset), str(out)]
    costs = measured([*command, str(chosen.workers), chosen.tokenizer])
    print(f"\n{rows:,} rows, {source.stat().st_size >> 20:,} MB, {chosen.workers} workers")
    print(f"{'phase':<32}{'s':>9}{'CPU s':>9}{'rows per CPU s':>16}{'cores':>7}{'peak MB':>9}")
    for name, cost in costs.items():
        speed, cores = rows / cost["cpu s"], cost["cpu s"] / cost["s"]
        figures = f"{cost['s']:>9.1f}{cost['cpu s']:>9.1f}{speed:>16,.0f}{cores:>7.2f}{cost['peak'] / 2**20:>9,.0f}"
        print(f"{name:<32}{figures}")
    whole = rows / costs["all"]["cpu s"]
    print(f"reference, orjson reads and writes each line: {floor:,.0f} rows per CPU s, {floor / whole:,.0f} times ours")
    print(json.dumps(judge(out, truth, planted, rows)), flush=True)
    subprocess.run(["rm", "-r", str(out)], check=True)
    return costs


def main() -> None:
    """Two sizes, and what follows for many rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--small", type=int, default=50_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--tokenizer", default="")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", default=None, help="Where the rows are put for the time of the run.")
    parser.add_argument("--child", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        files, evalset, out, workers, tokenizer = chosen.child
        child(files, evalset, out, int(workers), tokenizer)
        return
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        small = run(chosen.small, chosen, Path(folder))
        large = run(chosen.rows, chosen, Path(folder))
    print(f"\nfrom {chosen.small:,} to {chosen.rows:,} rows, and what follows for {FAR:,} on {FAR_GIB} GiB")
    print(f"{'phase':<32}{'bytes a row':>12}{'time/rows':>11}{'CPU/rows':>10}{'GiB':>7}{'CPU h':>8}")
    more, times = chosen.rows - chosen.small, chosen.rows / chosen.small
    for name, after in large.items():
        before = small[name]
        growth = (after["peak"] - before["peak"]) / more
        memory = after["peak"] + max(0.0, growth) * (FAR - chosen.rows)
        hours = after["cpu s"] * FAR / chosen.rows / 3600
        wall, cpu = (after[figure] / before[figure] / times for figure in ("s", "cpu s"))
        print(f"{name:<32}{growth:>12,.0f}{wall:>11.2f}{cpu:>10.2f}{memory / 2**30:>7.1f}{hours:>8.1f}")


if __name__ == "__main__":
    main()
