"""How long lineage takes to answer, and what the index of records costs, for a dataset of many rows.

``python benchmarks/lineage.py [--rows 2000000] [--withdrawn 2000]`` makes a corpus of so many short records, of which
some are retracted or deleted in a later version, and a dataset of rows of 1 KB with all of them; then it prints what
the index costs to write, and how long ``lineage ID``, ``lineage --retracted``, ``dataset diff`` and ``dataset verify``
take, each in a process of its own, imports included.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from medllm_ops.corpus.items import write_items
from medllm_ops.corpus.storage import open_storage
from medllm_ops.corpus.writer import open_writer
from medllm_ops.curation.write.index import write_index
from medllm_ops.datasets.verify import content_of, files_of
from medllm_ops.fetch.base import FetchedFile
from medllm_ops.files import write_json
from medllm_ops.records import Deletion, Document, Record

FILE_ROWS = 200_000
TEXT = "word " * 190
TELL = """
import re, time
from pathlib import Path
from medllm_ops.{module} import {name}
begin = time.perf_counter()
{call}
seconds = time.perf_counter() - begin
print(seconds, int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024)
"""
QUESTIONS = {
    "lineage ID": ("lineage.trace", "trace", "assert trace({last!r}).places"),
    "lineage --retracted": ("lineage.trace", "withdrawn", "assert withdrawn()[0].share.hits"),
    "dataset diff": (
        "datasets.diff",
        "diff",
        "from medllm_ops.datasets.store import find_dataset as of; diff(of('med@1'), of('med@2'))",
    ),
    "dataset verify": (
        "datasets.verify",
        "verify",
        "from medllm_ops.datasets.store import find_dataset as of; assert not list(verify(of('med@1')))",
    ),
}


def document(number: int, retracted: bool = False) -> Document:
    """A short record: lineage never looks at texts."""
    return Document(id=f"pubmed:{number}", source="pubmed", language="en", title="", text="a text", retracted=retracted)


def apply(corpus: Path, name: str, items: Iterator[Record | Deletion], work: Path) -> None:
    """Apply one raw file."""
    write_items(items, work)
    with open_writer(open_storage(str(corpus)), "pubmed") as writer:
        writer.apply(FetchedFile(name=name, path=work), work)


def fill(corpus: Path, rows: int, withdrawn: int, work: Path) -> None:
    """A corpus of so many records; then half of those withdrawn are retracted, half deleted."""
    for start in range(0, rows, FILE_ROWS):
        apply(corpus, str(start), (document(number) for number in range(start, min(rows, start + FILE_ROWS))), work)
    numbers = range(0, rows, max(1, rows // withdrawn))
    apply(corpus, "retracted", (document(number, retracted=True) for number in numbers[::2]), work)
    notices = (Deletion(id=f"pubmed:{number}", file="", position="") for number in numbers[1::2])
    apply(corpus, "deleted", notices, work)


def freeze(folder: Path, corpus: Path, rows: int, step: int) -> tuple[float, float]:
    """A dataset of all records but each ``step``-th: the seconds to write its rows, and its index."""
    begin = time.process_time()
    counts = {"train": 0, "val": 0}
    for side in counts:
        (folder / side).mkdir(parents=True)
    files = {side: (folder / side / "pubmed.jsonl").open("wb") for side in counts}
    for number in range(rows):
        if step and number % step == 0:
            continue
        side = "val" if number % 10 == 3 else "train"
        line = f'{{"id":"pubmed:{number}","messages":[{{"role":"assistant","content":"{TEXT}{number}"}}]}}\n'
        files[side].write(line.encode())
        counts[side] += 1
    for file in files.values():
        file.close()
    written = time.process_time()
    write_index(folder, lambda ids: [True] * len(ids))
    indexed = time.process_time()
    total = sum(counts.values())
    write_json(folder / "ledger.json", [{"step": "read", "source": "pubmed", "in": total, "out": total, "dropped": {}}])
    (folder / "removed.jsonl").touch()
    manifest = {"sources": {"pubmed": counts}, "corpus": {"url": str(corpus), "version": 1}, "files": files_of(folder)}
    write_json(folder / "manifest.json", {**manifest, "content": content_of(manifest["files"])})
    return written - begin, indexed - written


def main() -> None:
    """Make all, ask, print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, default=2_000_000)
    arguments.add_argument("--withdrawn", type=int, default=2_000)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        corpus = home / "corpus"
        fill(corpus, options.rows, options.withdrawn, home / "items")
        for version, step in ((1, 0), (2, 100)):
            folder = home / "datasets" / "med" / str(version)
            _, index = freeze(folder, corpus, options.rows, step)
            size = sum(path.stat().st_size for path in (folder / "ids").rglob("*.npy"))
        print(f"{options.rows:,} rows: index written in {index:.1f} CPU s, {size / 1e6:.0f} MB")
        environment = {**os.environ, "MEDLLM_HOME": str(home)}
        for title, (module, function, call) in QUESTIONS.items():
            code = TELL.format(module=module, name=function, call=call.format(last=f"pubmed:{options.rows - 1}"))
            begin = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
            )
            seconds, memory = map(float, done.stdout.split())
            whole = time.perf_counter() - begin
            print(f"{title}: {seconds:.2f} s, with imports {whole:.2f} s, {memory:.0f} MiB")


if __name__ == "__main__":
    main()
