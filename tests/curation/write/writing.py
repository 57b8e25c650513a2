"""Rows that are written as a dataset, and what is read of it again."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import xxhash

from curation import made
from medllm_ops.curation.settings import STEPS, CurationSettings, check_settings
from medllm_ops.curation.state.state import CurationState
from medllm_ops.curation.write.write import write_dataset
from medllm_ops.files import read_json, read_json_lines

Row = dict[str, Any]
PLAIN: Row = {"clean": {"enabled": False}, "scrub": {"enabled": False}}
Known = Callable[..., CurationState]


def unique(count: int, seed: int, sources: tuple[str, ...] = ("made", "other")) -> list[Row]:
    """Rows of all kinds in both languages, none like another."""
    kinds = ("document", "dialogue", "preference")
    return [
        made.row(
            f"{sources[number % len(sources)]}:{seed}-{number:03}",
            seed * 10**5 + number,
            sources[number % len(sources)],
            kinds[number % 3],
            ("en", "zh")[number // 2 % 2],
        )
        for number in range(count)
    ]


def chosen(**values: Any) -> CurationSettings:
    return check_settings({**PLAIN, **values}, "settings")


def write(state: CurationState, out: Path, settings: CurationSettings | None = None, **more: Any) -> Path:
    write_dataset(state, out, settings or chosen(), **more)
    assert not (out / "work").exists()
    return out


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def lines(out: Path) -> dict[str, list[Row]]:
    return {
        f"{path.parent.name}/{path.stem}": list(read_json_lines(path))
        for path in sorted(out.glob("*/*.jsonl"))
        if path.parent.name in ("train", "val")
    }


def every(out: Path) -> dict[str, Row]:
    return {row["id"]: row for rows in lines(out).values() for row in rows}


def ledger(out: Path) -> dict[tuple[str, str], Row]:
    entries = read_json(out / "ledger.json")
    for source in {entry["source"] for entry in entries}:
        own = [entry for entry in entries if entry["source"] == source]
        assert [entry["step"] for entry in own] == list(STEPS)
        assert all(before["out"] == after["in"] for before, after in pairwise(own))
    return {(entry["step"], entry["source"]): entry for entry in entries}


def removed(out: Path) -> dict[str, Row]:
    rows = list(read_json_lines(out / "removed.jsonl"))
    assert rows == sorted(rows, key=lambda row: (STEPS.index(row["step"]), row["id"]))
    return {row["id"]: row for row in rows}


def dialogue(id_: str, words: int, source: str = "made") -> Row:
    seed = xxhash.xxh3_64_intdigest(id_.encode()) % 10**9
    row = made.row(id_, seed, source, "dialogue")
    row["messages"][1]["content"] += " " + " ".join(made.english(words, seed))
    return row
