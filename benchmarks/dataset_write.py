"""What writing a dataset costs: rows of 1 KB a CPU second, peak memory; and tokens a CPU second where texts are cut.

``python benchmarks/dataset_write.py [--rows 200000] [--tokenizer FOLDER]`` makes a state of so many rows of two
sources, English and Chinese, and writes it as a dataset: split, in the order of hashes, with all that belongs to it.
Beside it, in the same run, others that write the same rows in another order: the library ``datasets`` (load, shuffle
by the same seed, split, write both sides), pandas (read, sample, write), and, as a floor, a bare loop of orjson that
keeps the order. Each is measured in a process of its own, whose memory is its own.

Then rows of 40 KB are cut to 2,048 tokens, by the tokenizer of the folder or of the tiny test model, against the bare
tokenizer.
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import orjson

from medllm_ops.curation.prepare import prepare
from medllm_ops.curation.settings import CurationSettings, check_settings
from medllm_ops.curation.state.state import CurationState
from medllm_ops.curation.write.chunk import cut_texts
from medllm_ops.curation.write.tokens import load_tokenizer
from medllm_ops.curation.write.write import write_dataset
from medllm_ops.files import to_json_line

LETTERS: Final = "aaabcdeeeefghiiijklmnnnoooprrrsssttttuuvwxyz"
HAN: Final = [chr(code) for code in range(0x4E00, 0x4E00 + 3000)]
SOURCES: Final = ("pubmed_like", "tcm_like")
BUDGET: Final = 2048


def texts(count: int, size: int) -> list[str]:
    """Texts of about so many bytes, English and Chinese in turn, with sentences and paragraphs."""
    chance = random.Random(0)
    words = ["".join(chance.choices(LETTERS, k=chance.randint(2, 10))) for _ in range(8000)]
    made = []
    for number in range(count):
        english = number % 2 == 0
        # With their space or comma, 7 bytes a word and 3.3 a Chinese character.
        tokens = chance.choices(words if english else HAN, k=int(size / (7 if english else 3.3)))
        parts = []
        for first in range(0, len(tokens), 15):
            sentence = tokens[first : first + 15]
            mark = "\n\n" if first % 120 == 105 else " " if english else ""
            parts.append(" ".join(sentence).capitalize() + "." + mark if english else "".join(sentence) + "。" + mark)
        made.append("".join(parts).strip())
    return made


def make_state(folder: Path, rows: int) -> tuple[CurationSettings, float]:
    """A state with all rows kept; how long it took."""
    settings = check_settings({"clean": {"enabled": False}, "scrub": {"enabled": False}}, "settings")
    source = folder / "rows.jsonl"
    with source.open("wb") as file:
        for number, text in enumerate(texts(rows, 1000)):
            row = {"id": f"{SOURCES[number % 2]}:{number:08}", "messages": [{"role": "assistant", "content": text}]}
            more = {"source": SOURCES[number % 2], "language": ("en", "zh")[number % 2], "licence": "CC0-1.0"}
            file.write(to_json_line({**row, **more}))
    begun = time.process_time()
    with CurationState.open(folder / "state", settings) as state:
        prepare([source], state.next_segment, settings, full=True)
        state.absorb()
    return settings, time.process_time() - begun


def exported(folder: Path) -> None:
    """The step."""
    settings = check_settings({"clean": {"enabled": False}, "scrub": {"enabled": False}}, "settings")
    with CurationState.open(folder / "state", settings) as state:
        write_dataset(state, folder / "out", settings)


def with_datasets(folder: Path) -> None:
    """The library ``datasets``, which keeps its rows in memory maps."""
    from datasets import load_dataset

    rows = load_dataset("json", data_files=str(folder / "rows.jsonl"), cache_dir=str(folder / "cache"), split="train")
    for source in SOURCES:
        own = rows.filter(
            lambda names, source=source: [name == source for name in names], input_columns="source", batched=True
        )
        sides = own.select_columns(["id", "messages"]).train_test_split(0.1, seed=42)
        for side, part in sides.items():
            part.to_json(folder / f"datasets-{source}-{side}.jsonl", force_ascii=False)


def with_pandas(folder: Path) -> None:
    """Pandas, all rows in memory."""
    import pandas as pd

    rows = pd.read_json(folder / "rows.jsonl", lines=True)
    for source, own in rows.groupby("source"):
        shuffled = own[["id", "messages"]].sample(frac=1, random_state=42)
        first = len(shuffled) // 10
        for side, part in (("val", shuffled[:first]), ("train", shuffled[first:])):
            part.to_json(folder / f"pandas-{source}-{side}.jsonl", orient="records", lines=True, force_ascii=False)


def bare(folder: Path) -> None:
    """The floor: a loop of orjson that drops the other fields and keeps the order."""
    with (folder / "rows.jsonl").open("rb") as lines, (folder / "bare.jsonl").open("wb") as out:
        for line in lines:
            row = orjson.loads(line)
            out.write(to_json_line({"id": row["id"], "messages": row["messages"]}))


MEASURED: Final[dict[str, Callable[[Path], None]]] = {
    "this": exported,
    "datasets": with_datasets,
    "pandas": with_pandas,
    "bare orjson loop": bare,
}


def in_own_process(name: str, folder: Path) -> dict[str, Any]:
    """CPU seconds and peak memory of one of :data:`MEASURED`."""
    command = [sys.executable, __file__, "--measure", name, "--folder", str(folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["it said nothing"])[-1]}
    told: dict[str, Any] = orjson.loads(done.stdout.splitlines()[-1])
    return told


def measure(name: str, folder: Path) -> None:
    """Print the figures of one, with its imports left out of the time, not of the memory."""
    if name == "datasets":
        import datasets  # noqa: F401
    elif name in ("pandas", "this"):
        # Pyarrow imports it where it is installed, the first time that an array is made.
        import pandas  # noqa: F401
    before = resource.getrusage(resource.RUSAGE_SELF)
    idle = peak_memory()
    MEASURED[name](folder)
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(orjson.dumps({"seconds": seconds, "megabytes": peak_memory(), "idle": idle}).decode())


def peak_memory() -> float:
    """The most megabytes that this process had so far; getrusage counts those of the process that began it, too."""
    status = Path("/proc/self/status").read_text(encoding="ascii").split()
    return int(status[status.index("VmHWM:") + 1]) / 1024


def chunking(folder: Path) -> None:
    """Tokens a CPU second, against the bare tokenizer."""
    tokenizer = load_tokenizer(folder)
    made = texts(200, 40_000)
    begun = time.process_time()
    tokens = sum(tokenizer.counts(made))
    bare_seconds = time.process_time() - begun
    begun = time.process_time()
    pieces = [len(cut or []) for cut in cut_texts(made, [BUDGET] * len(made), tokenizer)]
    seconds = time.process_time() - begun
    print(f"cutting {len(made)} texts of 40 KB, {tokens:,} tokens, into {sum(pieces):,} pieces of {BUDGET:,} tokens:")
    print(f"  bare tokenizer  {tokens / bare_seconds:12,.0f} tokens per CPU s")
    print(f"  cut             {tokens / seconds:12,.0f} tokens per CPU s, {seconds / bare_seconds:.1f} times as long")


def main() -> None:
    """Make, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--tokenizer", type=Path, help="a folder with tokenizer.json; left out: the tiny test model's")
    parser.add_argument("--measure", choices=list(MEASURED), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure, options.folder)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _, seconds = make_state(folder, options.rows)
        print(f"{options.rows:,} rows, {(folder / 'rows.jsonl').stat().st_size / options.rows:,.0f} bytes each")
        print(f"(a state with them: {seconds:.0f} CPU s)")
        first = None
        for one in MEASURED:
            told = in_own_process(one, folder)
            if "error" in told:
                print(f"  {one:17} {told['error']}")
                continue
            first = first or told["seconds"]
            rate, times = options.rows / told["seconds"], told["seconds"] / first
            memory = f"{told['megabytes']:,.0f} MB at most ({told['idle']:,.0f} MB before it began)"
            print(f"  {one:17} {rate:10,.0f} rows per CPU s, {times:5.1f} times as long, {memory}")
        if options.tokenizer is None:
            from medllm_ops.models.tiny import make_tokenizer

            options.tokenizer = folder / "tokenizer"
            make_tokenizer().save_pretrained(options.tokenizer)
        chunking(options.tokenizer)


if __name__ == "__main__":
    main()
