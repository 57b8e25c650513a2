"""Whatever comes in whatever batches, the corpus ends where a plain dictionary ends, and every item is counted."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.toys import Item, deletion, document, reject
from medllm_ops.corpus.changes import (
    COLUMNS,
    DELETED_LATER,
    GONE,
    OLDER,
    REPLACED_LATER,
    STATE,
    UNCHANGED,
    Changes,
    Event,
    member_of,
)
from medllm_ops.corpus.items import read_chunks, write_items
from medllm_ops.corpus.schema import RECORDS
from medllm_ops.records import Deletion, Document, LedgerEntry, Reject

Rows = dict[str, dict[str, Any]]

IDS = st.integers(1, 3)
ITEMS = st.one_of(
    st.builds(document, IDS, text=st.sampled_from(["one", "two"]), version=st.integers(1, 3), retracted=st.booleans()),
    st.builds(deletion, IDS),
    st.builds(reject, IDS, withdraws=st.sampled_from([None, 1, 2, 3])),
)


class Corpus:
    """The table of records as a dictionary of rows, changed by what :class:`Changes` says."""

    def __init__(self) -> None:
        self.rows: Rows = {}
        self.events: list[Event] = []
        self.ledger = LedgerEntry("test")
        self.counts: Counter[str] = Counter()

    def take(self, items: list[Item], path: Path) -> Changes:
        write_items(items, path)
        (chunk,) = read_chunks(path)
        looked_at = chunk.columns(("number", *COLUMNS))
        schema = pa.schema([RECORDS.field(name) for name in STATE])
        before = [self.rows[name] for name in looked_at["id"].unique().to_pylist() if name in self.rows]
        changes = Changes(looked_at, pa.Table.from_pylist(before, schema), self.ledger, self.counts)
        touched = set()
        for positions in (changes.upserts, changes.buried):
            for row in chunk.columns(("id", "version", "retracted", "hash")).take(positions).to_pylist():
                dead = changes.deleted.get(row["id"])
                self.rows[row["id"]] = row | {"deleted": dead, "hash": None if dead else row["hash"]}
                touched.add(row["id"])
        for name in {*changes.deleted} - touched:
            self.rows[name] = self.rows[name] | {"deleted": changes.deleted[name], "hash": None}
        assert {*changes.present} == {row["id"] for row in before} & ({*changes.deleted} | touched)
        assert len(changes.rejected) == sum(isinstance(item, Reject) for item in items)
        self.events += changes.events
        return changes


def wanted(items: list[Item]) -> dict[str, Document]:
    """Which records must live after these items, by the rules in words."""
    alive: dict[str, Document] = {}
    for item in items:
        here = alive.get(str(item.id))
        if isinstance(item, Document):
            if here is None or item.version >= here.version:
                alive[item.id] = item
        elif isinstance(item, Deletion) or (here and item.withdraws is not None and item.withdraws >= here.version):
            alive.pop(str(item.id), None)
    return alive


@settings(max_examples=300)
@given(st.lists(ITEMS, max_size=12), st.lists(st.integers(0, 12), max_size=4))
def test_any_history_in_any_batches(
    tmp_path_factory: pytest.TempPathFactory, items: list[Item], cuts: list[int]
) -> None:
    path = tmp_path_factory.getbasetemp() / "items"
    corpus = Corpus()
    places = sorted({0, *cuts, len(items)})
    for start, end in itertools.pairwise(places):
        if batch := items[start:end]:
            corpus.take(batch, path)
    alive = {name: row for name, row in corpus.rows.items() if row["deleted"] is None}
    truth = wanted(items)
    assert {name: (row["version"], row["retracted"]) for name, row in alive.items()} == {
        name: (record.version, record.retracted) for name, record in truth.items()
    }
    only = Corpus()
    if truth:
        only.take(list(truth.values()), path)
    assert {name: row["hash"] for name, row in alive.items()} == {name: row["hash"] for name, row in only.rows.items()}
    assert corpus.ledger.check().rows_in == len(items)
    assert corpus.counts == Counter(event for _, event, _, _ in corpus.events)
    assert replay(corpus.events) == {
        name: (row["deleted"] is not None, row["version"], row["retracted"], row["hash"])
        for name, row in corpus.rows.items()
    }


def replay(events: list[Event]) -> dict[str, tuple[bool, int, bool, bytes | None]]:
    """The state that the facts alone tell."""
    states: dict[str, tuple[bool, int, bool, bytes | None]] = {}
    for name, event, version, digest in events:
        dead, _, retracted, _ = states.get(name, (True, 0, False, None))
        if event in {"added", "restored"}:
            assert dead, "what lives cannot come to life"
            assert (event == "restored") == (name in states)
        else:
            assert not dead, "a dead record cannot change"
        assert (digest is None) == (event in GONE)
        retracted = {"retracted": True, "reinstated": False}.get(event, retracted)
        states[name] = (event in GONE, version, retracted, digest)
    return states


@pytest.mark.parametrize(
    ("items", "dropped", "rows_out"),
    [
        ([document(1, "a"), document(1, "b")], {REPLACED_LATER: 1}, 1),
        ([document(1, "a"), document(1, "a")], {UNCHANGED: 1}, 1),
        ([document(1, version=2), document(1, version=1)], {OLDER: 1}, 1),
        ([document(1), deletion(1)], {DELETED_LATER: 1, "deletion notice": 1}, 0),
        ([document(1), reject(1, withdraws=1)], {DELETED_LATER: 1, "no abstract": 1}, 0),
        ([document(1, version=2), reject(1, withdraws=1)], {"no abstract": 1}, 1),
        ([document(1), reject(1)], {"no abstract": 1}, 1),
        ([deletion(1), document(1, version=1)], {"deletion notice": 1}, 1),
        ([document(1, version=2), deletion(1), document(1)], {DELETED_LATER: 1, "deletion notice": 1}, 1),
    ],
)
def test_every_item_is_counted_under_its_reason(
    tmp_path: Path, items: list[Item], dropped: dict[str, int], rows_out: int
) -> None:
    corpus = Corpus()
    corpus.take(items, tmp_path / "items")
    assert corpus.ledger.to_row() == {"step": "test", "in": len(items), "out": rows_out, "dropped": dropped}


def test_a_record_that_came_and_went_in_one_batch_is_buried(tmp_path: Path) -> None:
    corpus = Corpus()
    changes = corpus.take([document(1, version=2, retracted=True), deletion(1)], tmp_path / "items")
    assert changes.buried.to_pylist() == [0]
    assert changes.upserts.to_pylist() == []
    assert corpus.rows["toy:1"] | {"hash": 0} == {
        "id": "toy:1", "version": 2, "retracted": True, "deleted": "deleted by its publisher", "hash": 0,
    }  # fmt: skip


def test_members_are_the_same_on_every_machine() -> None:
    assert member_of("toy:1") == -2156246256949274151
    assert len({member_of(f"toy:{number}") for number in range(10_000)}) == 10_000
