"""Where a record has been: in which versions of the corpus, and in which datasets."""

from __future__ import annotations

import bisect
import mmap
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from medllm_ops.corpus import manifest as manifests
from medllm_ops.corpus.changes import GONE
from medllm_ops.corpus.reader import Snapshot
from medllm_ops.curation.write.index import hash_of
from medllm_ops.datasets.ids import read_index
from medllm_ops.datasets.store import Dataset


@dataclass(frozen=True, slots=True)
class Fact:
    """What happened to a record.

    ``corpus_version`` is the first one that has it; where older ones were cleaned away, ``is_first`` is false, and it
    may have been there before.
    """

    event: str
    version: int
    date: str
    file: str
    corpus_version: int
    is_first: bool


@dataclass(frozen=True, slots=True)
class Life:
    """A record in the corpus. ``lived``: the corpus versions from and until which it was there; None: it still is."""

    source: str
    facts: list[Fact]
    lived: list[tuple[int, int | None]]
    retracted: bool

    @property
    def alive(self) -> bool:
        """Whether it lives in the newest version."""
        return bool(self.lived) and self.lived[-1][1] is None


@dataclass(frozen=True, slots=True)
class Place:
    """A record in a dataset: ``side`` is train or val; empty where a step took it out, which then says why."""

    dataset: Dataset
    source: str
    side: str
    step: str = ""
    reason: str = ""
    kept: str = ""

    def to_row(self) -> dict[str, Any]:
        """As JSON."""
        row = {key: value for key, value in asdict(self).items() if key != "dataset"}
        return {"dataset": str(self.dataset), "directory": str(self.dataset.directory), **row}


def life_of(snapshot: Snapshot, record_id: str) -> Life | None:
    """What a corpus knows of a record; None if it never had it."""
    for source in snapshot.sources:
        columns = ("id", "event", "version", "date", "file")
        places, rows = snapshot.table(source, "events").find_places(columns, "id", record_id)
        if rows:
            break
    else:
        return None
    versions = manifests.versions(snapshot.storage)
    versions = versions[: bisect.bisect_right(versions, snapshot.version)]
    facts = []
    for place, row in zip(places, rows, strict=True):
        first = bisect.bisect_left(
            versions, True, key=lambda number: Snapshot(snapshot.storage, number).facts(source) > place
        )
        is_first = first > 0 or versions[0] == 1
        facts.append(Fact(row["event"], row["version"], row["date"], row["file"], versions[first], is_first))
    return Life(source, facts, _lived(facts), _is_retracted(facts))


def _lived(facts: Iterable[Fact]) -> list[tuple[int, int | None]]:
    found: list[tuple[int, int | None]] = []
    for fact in facts:
        is_alive = bool(found) and found[-1][1] is None
        if fact.event in GONE and is_alive:
            begin = found.pop()[0]
            if fact.corpus_version > begin:  # else it came and went within one version
                found.append((begin, fact.corpus_version - 1))
        elif fact.event not in GONE and not is_alive:
            found.append((fact.corpus_version, None))
    return found


def _is_retracted(facts: Iterable[Fact]) -> bool:
    told = [fact.event for fact in facts if fact.event in ("retracted", "reinstated")]
    return bool(told) and told[-1] == "retracted"


def places_of(record_id: str, datasets: Iterable[Dataset]) -> Iterator[Place]:
    """Where a record stands in datasets, or which step took it out."""
    wanted = np.array([hash_of(record_id)], np.uint64)
    for dataset in datasets:
        found = [index for index in read_index(dataset) if index.has(wanted)[0]]
        for index in found:
            yield Place(dataset, index.source, index.side)
        if not found and (row := removed_row(dataset.directory / "removed.jsonl", record_id)):
            why = {key: row.get(key) or "" for key in ("source", "step", "reason", "kept")}
            yield Place(dataset, side="", **why)


def removed_row(path: Path, record_id: str) -> dict[str, Any] | None:
    """The line of ``removed.jsonl`` about a record; the file is searched as it is, not parsed."""
    if not path.is_file() or not path.stat().st_size:
        return None
    needle = b'"id":' + orjson.dumps(record_id)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        place = content.find(needle)
        while place >= 0:
            begin = content.rfind(b"\n", 0, place) + 1
            end = content.find(b"\n", place)
            row: dict[str, Any] = orjson.loads(content[begin : end if end >= 0 else len(content)])
            if row["id"] == record_id:
                return row
            place = content.find(needle, place + 1)
    return None
