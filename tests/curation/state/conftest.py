"""Segments as the row-wise steps prepare them, made by hand."""

from __future__ import annotations

import os
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

from medllm_ops.curation.duplicates.normalise import compared
from medllm_ops.curation.duplicates.settings import DuplicateSettings, Shingles
from medllm_ops.curation.settings import CurationSettings
from medllm_ops.curation.state.segment import INDEX
from medllm_ops.curation.state.state import CurationState
from medllm_ops.files import whole_directory, write_json

Row = dict[str, Any]
# Bands enough that no pair above the threshold is missed.
DUPLICATES = DuplicateSettings(words=Shingles(candidate_size=2, size=2, threshold=0.6), bands=64, rows=2)
SETTINGS = CurationSettings.model_validate(
    {"duplicates": DUPLICATES.model_dump(), "split": {"val_share": 0.4}, "sets": {"b": {"val_share": 0.6}}}
)
WORDS = [f"w{number}" for number in range(400)]


def text(family: int, window: int) -> str:
    """Windows that stand next to each other are near duplicates (0.66); others are not (0.42), but by a chain."""
    start = family * 80 + window * 8
    return " ".join(WORDS[start : start + 40])


def row(id_: str, content: str, source: str = "a", drop: tuple[str, str] | None = None, **more: Any) -> Row:
    """A line; ``drop`` is the step and the reason of one that does not go on."""
    messages = [{"role": "assistant", "content": content}]
    fields = {"source": source, "language": "en", "licence": "CC0", "version": 1, "retracted": False, **more}
    return {"id": id_, "messages": messages, **fields, "drop": drop}


def write_segment(
    folder: Path, rows: Iterable[Row], gone: Sequence[str] = (), full: bool = False, made: str = "1"
) -> None:
    """Write a segment."""
    files: dict[str, bytearray] = {}
    index = []
    for one in rows:
        line = {name: value for name, value in one.items() if name != "drop"}
        data = orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
        file = files.setdefault(one["source"], bytearray())
        place = (None, None, None) if one["drop"] else (len(file), len(data), data.index(b',"source"'))
        if not one["drop"]:
            file += data
        characters = len(one["messages"][0]["content"])
        digest = xxhash.xxh3_128_digest(orjson.dumps(one))
        what = (one["language"], one["licence"], characters, *(one["drop"] or (None, None)), None)
        index.append((one["id"], one["source"], digest, *place, *what))
    columns = list(zip(*index, strict=True)) or [() for _ in INDEX]
    table = pa.table([pa.array(column, field.type) for column, field in zip(columns, INDEX, strict=True)], INDEX)
    with whole_directory(folder) as part:
        (part / "rows").mkdir()
        for source, content in files.items():
            if content:
                (part / "rows" / f"{source}.jsonl").write_bytes(content)
        pq.write_table(table, part / "index.parquet", row_group_size=5)
        (part / "gone.txt").write_text("".join(f"{id_}\n" for id_ in gone))
        write_json(part / "settings.json", {"fingerprint": made, "full": full})


def listing(state: CurationState) -> dict[str, Any]:
    """Everything that a state says, in an order that does not depend on where rows stand."""
    kept = {}
    for some in state.kept():
        assert some.rows.num_rows > 0
        for one in some.rows.to_pylist():
            with (some.segment / "rows" / f"{one['source']}.jsonl").open("rb") as file:
                file.seek(one.pop("begin"))
                line = file.read(one.pop("length"))
            exported = orjson.loads(line[: one.pop("cut")] + b"}")
            assert exported == {"id": one["id"], "messages": orjson.loads(line)["messages"]}
            assert one["id"] not in kept
            kept[one["id"]] = {**one, "line": line}
    steps = ("read", "clean", "scrub", "exact dedup", "near dedup", "split")
    removed = [one for step in steps for one in state.removed(step)]
    return {"kept": dict(sorted(kept.items())), "removed": removed, "counts": state.counts()}


SHARES = {"a": 0.4, "b": 0.6, "c": 0.4}


class Model:
    """The rules in the plainest way."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.sides: dict[str, str] = {}
        self.of_cluster: dict[bytes, str] = {}

    def step(self, lines: list[Row], gone: list[str], full: bool) -> None:
        given_ids = {line["id"] for line in lines}
        if full:
            gone = [id_ for id_, row in self.rows.items() if row["step"] != "gone" and id_ not in given_ids]
        for id_ in gone:
            if id_ in self.rows and id_ not in given_ids:
                self.rows[id_].update(step="gone", live=False)
        before = {id_: row for id_, row in self.rows.items() if row["live"]}
        for line in lines:
            was = before.get(line["id"])
            content, words = compared(line).content, line["text"]
            same = was is not None and was["content"] == content and not line["drop"]
            self.rows[line["id"]] = {
                "line": line, "source": line["source"], "content": content, "words": words, "live": not line["drop"],
                "length": compared(line).length, "step": (line["drop"] or ("",))[0],
                "kept": was["kept"] if same else None, "cluster": was["cluster"] if same else None,
            }  # fmt: skip
        self._clusters(before)

    def _clusters(self, before: dict[str, Row]) -> None:
        live = {id_: row for id_, row in self.rows.items() if row["live"]}
        old = {row["cluster"] for row in live.values() if row["cluster"]}
        groups = [{name} | {row["content"] for row in live.values() if row["cluster"] == name} for name in old]
        known = {row["content"]: row["words"] for row in live.values() if row["cluster"]}
        for row in live.values():
            if not row["cluster"] and row["content"] not in known:
                near = {content for content, words in known.items() if self._near(row["words"], words)}
                touched = [group for group in groups if group & {row["content"], *near}]
                groups = [group for group in groups if group not in touched] + [{row["content"]}.union(*touched)]
                known[row["content"]] = row["words"]
        named = {}
        for group in groups:
            joined = group & old
            name = min(joined or group)
            members = {id_: row for id_, row in live.items() if row["content"] in group}
            for row in members.values():
                row["cluster"] = name
            self._elect(members)
            if members:
                named[name] = (members, joined)
        self._split(named)

    @staticmethod
    def _near(one: tuple[int, int], other: tuple[int, int]) -> bool:
        return one[0] == other[0] and abs(one[1] - other[1]) <= 1

    @staticmethod
    def _elect(members: dict[str, Row]) -> None:
        if not members:
            return
        best = min(members, key=lambda id_: (members[id_]["kept"] != id_, -members[id_]["length"], id_))
        stay = {best} | {id_ for id_, row in members.items() if row["kept"] == id_}
        for id_, row in members.items():
            equal = [one for one in sorted(stay) if members[one]["content"] == row["content"]]
            row["kept"] = id_ if id_ in stay else equal[0] if equal else best
            equals = members[row["kept"]]["content"] == row["content"]
            row["step"] = "" if row["kept"] == id_ else "exact dedup" if equals else "near dedup"

    def _split(self, named: dict[bytes, tuple[dict[str, Row], set[bytes]]]) -> None:
        new = defaultdict(list)
        for name, (members, joined) in named.items():
            written = {self.sides.get(id_) for id_ in members} | {self.of_cluster.get(one) for one in {name, *joined}}
            side = "train" if "train" in written else "val" if "val" in written else None
            if side is None:
                source = min((id_, row["source"]) for id_, row in members.items() if row["kept"] == id_)[1]
                place = xxhash.xxh3_64_intdigest(b"split:" + name)
                side = "val" if place < SHARES[source] * 2**64 else "train"
                new[source].append((place, name))
            for one in {name, *joined}:
                self.of_cluster[one] = side
        for source, places in new.items():
            standing = Counter()
            for name, (members, _) in named.items():
                side = self.of_cluster[name]
                standing.update(
                    side
                    for id_, row in members.items()
                    if row["source"] == source and row["kept"] == id_ and self.sides.get(id_, side) == side
                )
            if len(standing) == 1 and standing.total() > 1:
                missing = "val" if "train" in standing else "train"
                self.of_cluster[(min if missing == "val" else max)(places)[1]] = missing
        for name, (members, _) in named.items():
            for id_, row in members.items():
                side = self.sides.setdefault(id_, self.of_cluster[name])
                if not row["step"] and side != self.of_cluster[name]:
                    row["step"] = "split"

    def kept(self) -> dict[str, tuple[str, str, bytes]]:
        return {
            id_: (row["source"], self.sides[id_], row["cluster"])
            for id_, row in sorted(self.rows.items())
            if row["step"] == ""
        }

    def removed(self) -> list[tuple[str, str, str, str]]:
        stands = ("exact dedup", "near dedup")
        return sorted(
            (row["step"], id_, row["source"], row["kept"] if row["step"] in stands else "")
            for id_, row in self.rows.items()
            if row["step"] not in ("", "gone")
        )


@pytest.fixture(autouse=True)
def _no_waiting_for_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No machine loses its power here; a killed process loses nothing that it wrote."""
    connect = sqlite3.connect

    def quick(*args: Any, **more: Any) -> sqlite3.Connection:
        database = connect(*args, **more)
        with suppress(sqlite3.DatabaseError):  # which is the tested code's to find
            database.execute("PRAGMA synchronous = OFF")
        return database

    monkeypatch.setattr(sqlite3, "connect", quick)
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def make_row() -> Callable[..., Row]:
    return row


@pytest.fixture
def window() -> Callable[[int, int], str]:
    return text


@pytest.fixture
def curation() -> CurationSettings:
    return SETTINGS


@pytest.fixture
def new_model() -> Callable[[], Model]:
    return Model


@pytest.fixture
def prepare() -> Callable[..., None]:
    return write_segment


@pytest.fixture
def tell() -> Callable[[CurationState], dict[str, Any]]:
    return listing


@pytest.fixture
def take(tmp_path: Path) -> Callable[..., CurationState]:
    """Take segments into a state one after the other; it is left open."""
    calls = iter(range(10**6))

    def do(history: Iterable[Mapping[str, Any]], settings: CurationSettings = SETTINGS) -> CurationState:
        state = CurationState.open(tmp_path / f"state{next(calls)}", settings)
        for segment in history:
            write_segment(state.next_segment, **segment)
            state.absorb()
        return state

    return do
