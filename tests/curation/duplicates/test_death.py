"""A step that is killed at any time and taken again gives the same bytes, and remembers the same."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from medllm_ops.curation.duplicates.settings import DuplicateSettings
from medllm_ops.curation.duplicates.signature_folder import SignatureFolder
from medllm_ops.files import write_json_lines

STEP = """
import sys
from pathlib import Path
from medllm_ops.curation.duplicates.duplicates import deduplicate
from medllm_ops.curation.duplicates.settings import DuplicateSettings
from medllm_ops.curation.duplicates.signature_folder import SignatureFolder

print("ready", flush=True)
rows, folder, gone = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
known = SignatureFolder(folder / "signatures", DuplicateSettings())
deduplicate({"a": rows}, folder / rows.stem, DuplicateSettings(), known=known, gone=gone)
"""


def take(rows: Path, folder: Path, gone: list[str], kill_after: float | None = None) -> bool:
    """Take a step in a process; whether it ended before it was killed."""
    command = [sys.executable, "-c", STEP, str(rows), str(folder), *gone]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n", process.stderr and process.stderr.read()
        if kill_after is not None:
            time.sleep(kill_after)
            process.kill()
        return process.wait() == 0


@pytest.mark.slow
def test_killed_and_taken_again(tmp_path: Path, text_row: Callable[..., Any], toys: Any) -> None:
    texts = [toys.words(60, number % 300) for number in range(700)]
    rows = [
        text_row(f"r{number:04}", " ".join(toys.changed(text, 0.04 * (number % 3), toys.words, number)))
        for number, text in enumerate(texts)
    ]
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    write_json_lines(first, rows[:400])
    write_json_lines(second, rows[350:])
    gone = ["r0003", "r0301"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert take(first, whole, [])
    start = time.perf_counter()
    assert take(second, whole, gone)
    span = time.perf_counter() - start
    assert take(first, killed, [])
    ends = [take(second, killed, gone, kill_after=span * share / 12) for share in range(10)]
    assert not all(ends)
    assert take(second, killed, gone)
    ids = pa.array([row["id"] for row in rows])
    states = [SignatureFolder(folder / "signatures", DuplicateSettings()).by_id(ids) for folder in (whole, killed)]
    assert states[0] == states[1]
    assert states[0].num_rows == 698
    if not any(ends):
        for name in ("clusters.parquet", "removed.jsonl", "ledger.json", "figures.json"):
            assert (whole / "second" / name).read_bytes() == (killed / "second" / name).read_bytes()
    leftovers = [path for path in killed.iterdir() if path.name.startswith(".")]
    assert leftovers == []
