"""Rows and steps that the tests of this folder share."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from medllm_ops.curation.duplicates.duplicates import deduplicate
from medllm_ops.curation.duplicates.result import Duplicates
from medllm_ops.curation.duplicates.settings import DuplicateSettings
from medllm_ops.files import write_json_lines

Row = dict[str, Any]
HAN = [chr(code) for code in range(0x4E00, 0x4E00 + 2000)]


def words(count: int, seed: int) -> list[str]:
    chance = random.Random(seed)
    return ["".join(chance.choices("abcdefghijklmnoprstuvwxyz", k=chance.randint(3, 9))) for _ in range(count)]


def han(count: int, seed: int) -> list[str]:
    return random.Random(seed).choices(HAN, k=count)


def changed(tokens: list[str], share: float, other: Callable[[int, int], list[str]], seed: int) -> list[str]:
    """The tokens with a share of them replaced, here and there."""
    tokens = list(tokens)
    places = random.Random(seed).sample(range(len(tokens)), round(share * len(tokens)))
    for place, token in zip(places, other(len(places), seed + 10_000), strict=True):
        tokens[place] = token
    return tokens


@pytest.fixture
def text_row() -> Callable[..., Row]:
    def make(id_: str, text: str, **more: Any) -> Row:
        messages = [{"role": "assistant", "content": text}]
        return {"id": id_, "messages": messages, "source": "s", "version": 1, "retracted": False, **more}

    return make


@pytest.fixture
def chat_row() -> Callable[..., Row]:
    def make(id_: str, *turns: str, **more: Any) -> Row:
        roles = ["user", "assistant"] * len(turns)
        messages = [{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=False)]
        return {"id": id_, "messages": messages, "source": "s", "version": 1, "retracted": False, **more}

    return make


@pytest.fixture
def toys() -> Any:
    """The generators of texts: ``words``, ``han`` and ``changed``."""

    class Toys:
        words = staticmethod(words)
        han = staticmethod(han)
        changed = staticmethod(changed)

    return Toys


@pytest.fixture
def step(tmp_path: Path) -> Callable[..., Duplicates]:
    """Deduplicate the rows of some sets."""
    calls = iter(range(10**6))

    def do(
        sets: Mapping[str, Iterable[Row]] | Iterable[Row], settings: DuplicateSettings | None = None, **more: Any
    ) -> Duplicates:
        folder = tmp_path / f"step{next(calls)}"
        sets = sets if isinstance(sets, Mapping) else {"a": sets}
        files = {name: folder / f"{name}.jsonl" for name in sets}
        for name, rows in sets.items():
            write_json_lines(files[name], rows)
        return deduplicate(files, folder / "out", settings or DuplicateSettings(), **more)

    return do


@pytest.fixture
def table() -> Callable[[Duplicates], dict[str, Row]]:
    """The table of clusters, by id."""

    def read(found: Duplicates) -> dict[str, Row]:
        return {row["id"]: row for row in pq.read_table(found.clusters).to_pylist()}

    return read
