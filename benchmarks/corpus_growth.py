"""What a refresh of 30,000 records costs, in a small corpus and in a large one.

``python benchmarks/corpus_growth.py [--rows 200000 2000000] [--update 30000] [--rounds 3]`` fills a corpus of each size
with generated records of 1 KB, then applies update files, half new and half corrected records, each in a process of
its own, and prints CPU seconds, wall seconds, the memory above the imports, bytes written, and the cost in each corpus
against the first. ``parse`` is what reading the same update from PubMed XML takes: a refresh is both.
"""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pubmed_refresh

from medllm_ops.corpus.items import write_items
from medllm_ops.corpus.storage import open_storage
from medllm_ops.corpus.writer import open_writer
from medllm_ops.fetch.base import FetchedFile
from medllm_ops.records import Document
from medllm_ops.sources.pubmed import parse

FILE_ROWS = 200_000


def document(chance: random.Random, number: int, state: int) -> Document:
    """A record of about 1 KB."""
    text = " ".join(chance.choices(pubmed_refresh.WORDS, k=120))
    return Document(
        id=f"pubmed:{number}",
        source="pubmed",
        language="en",
        title=f"Title {number}",
        text=f"Title {number}\n{text} {state}.",
        url=f"https://pubmed.ncbi.nlm.nih.gov/{number}/",
    )


def update(rows: int, size: int, state: int) -> Iterator[Document]:
    """Half of them are in the corpus, spread over it; half are new."""
    chance = random.Random(state)
    for number in sorted(chance.sample(range(rows), size // 2)):
        yield document(chance, number, state)
    for number in range(size // 2):
        yield document(chance, rows + state * size + number, state)


def fill(corpus: Path, rows: int) -> None:
    """Make a corpus of so many records."""
    chance = random.Random(0)
    items = corpus.parent / "items"
    with open_writer(open_storage(str(corpus)), "pubmed") as writer:
        for start in range(0, rows, FILE_ROWS):
            numbers = range(start, min(rows, start + FILE_ROWS))
            write_items((document(chance, number, 0) for number in numbers), items)
            writer.apply(FetchedFile(name=f"baseline/{start}", path=items), items)


def apply(corpus: Path, items: Path, name: str) -> None:
    """In a process of its own: print CPU seconds, wall seconds, MiB above the imports."""
    before = pubmed_refresh.resident("VmRSS")
    cpu, wall = time.process_time(), time.monotonic()
    with open_writer(open_storage(str(corpus)), "pubmed") as writer:
        writer.apply(FetchedFile(name=name, path=items), items)
    print(time.process_time() - cpu, time.monotonic() - wall, pubmed_refresh.resident("VmHWM") - before)


def size_of(folder: Path) -> int:
    """Bytes of all files below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def parsing(folder: Path, size: int) -> float:
    """CPU seconds to read an update of so many records from PubMed XML."""
    chance = random.Random(1)
    path = folder / "update.xml"
    head = pubmed_refresh.HEAD + "<PubmedArticleSet>\n"
    records = "".join(pubmed_refresh.record(chance, number) for number in range(1, size + 1))
    path.write_text(f"{head}{records}</PubmedArticleSet>\n")
    start = time.process_time()
    write_items(parse(path), folder / "parsed")
    return time.process_time() - start


def main() -> None:
    """Fill, update in turn, print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, nargs="+", default=[200_000, 2_000_000])
    arguments.add_argument("--update", type=int, default=30_000)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--apply", nargs=3, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.apply:
        apply(Path(options.apply[0]), Path(options.apply[1]), options.apply[2])
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parse_seconds = parsing(folder, options.update)
        print(f"parse {options.update:,} records from PubMed XML: {parse_seconds:.2f} CPU s")
        best: dict[int, float] = {}
        for rows in options.rows:
            start = time.process_time()
            fill(folder / str(rows), rows)
            filled, disk = time.process_time() - start, size_of(folder / str(rows))
            print(f"{rows:,} records: filled in {filled:.0f} CPU s, {disk / 1e6:,.0f} MB on disk")
        for state in range(1, options.rounds + 1):
            for rows in options.rows:
                corpus, items = folder / str(rows), folder / "items"
                write_items(update(rows, options.update, state), items)
                before = size_of(corpus)
                command = [sys.executable, __file__, "--apply", str(corpus), str(items), f"updatefiles/{state}"]
                output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                cpu, wall, memory = map(float, re.findall(r"[\d.]+", output))
                best[rows] = min(cpu, best.get(rows, cpu))
                written = (size_of(corpus) - before) / 1e6
                print(f"{rows:,}: {cpu:.2f} CPU s, {wall:.2f} s, {memory:.0f} MiB, {written:.0f} MB written")
        first = options.rows[0]
        for rows in options.rows[1:]:
            write, whole = best[rows] / best[first], (best[rows] + parse_seconds) / (best[first] + parse_seconds)
            print(f"{rows:,} against {first:,} records: write {write:.2f}, parse and write {whole:.2f}")


if __name__ == "__main__":
    main()
