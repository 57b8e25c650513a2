"""A new generation is invisible until its last file; then it replaces the old one, and what it lacks is removed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from corpus.toys import Item, apply, assert_sound, bring, deletion, document, events, exported, reject, texts
from medllm_ops.corpus import maintenance
from medllm_ops.corpus import manifest as manifests
from medllm_ops.corpus.manifest import Manifest
from medllm_ops.corpus.reader import Snapshot
from medllm_ops.corpus.storage import Storage
from medllm_ops.corpus.writer import open_writer

OLD = {"1": "text", "2": "text", "3": "text", "4": "text"}


@pytest.fixture(autouse=True)
def is_sound(storage: Storage) -> Iterator[None]:
    """Whatever a test did, the corpus it leaves is sound."""
    yield
    assert_sound(storage)


@pytest.fixture(autouse=True)
def old(storage: Storage) -> None:
    """A first generation, and an update of it: three live, one is deleted."""
    bring(storage, "25/1", [document(1), document(2)], generation="25")
    bring(storage, "25/2", [document(3), document(4)], generation="25", generation_complete=True)


def state(storage: Storage) -> manifests.SourceState:
    manifest: Manifest = manifests.read(storage)
    return manifest.source("toy")


def first(storage: Storage) -> None:
    bring(storage, "26/1", [document(1), document(2, "corrected"), document(5)], generation="26")


def last(storage: Storage, *more: Item) -> dict[str, int]:
    items = [document(4), document(6), *more]
    return bring(storage, "26/2", items, generation="26", generation_complete=True).events


def test_the_first_generation_is_seen_file_by_file(storage: Storage) -> None:
    assert texts(storage, 1) == {"1": "text", "2": "text"}
    assert texts(storage) == OLD
    assert state(storage).generation == "25"


def test_a_new_one_is_invisible_until_it_is_complete(storage: Storage) -> None:
    before = exported(storage)
    first(storage)
    assert exported(storage) == before
    assert (state(storage).generation, Snapshot(storage).counts("toy")["files"]) == ("25", 2)
    with open_writer(storage, "toy") as writer:
        assert writer.known.generation == "26"
        assert {*writer.known.files} == {"25/1", "25/2", "26/1"}
        assert writer.next_number == 4
    assert last(storage) == {"added": 1, "removed": 1}
    assert texts(storage) == {"1": "text", "2": "corrected", "4": "text", "5": "text", "6": "text"}
    assert events(storage, 3) == ["added", "removed"]
    assert Snapshot(storage).get("toy:3")[1]["deleted"] == "not in 26"
    assert (state(storage).generation, state(storage).staging) == ("26", None)
    assert Snapshot(storage).table("toy", "members").rows() == 0
    assert exported(storage, 2) == before


def test_what_was_deleted_before_may_come_back(storage: Storage) -> None:
    bring(storage, "update", [deletion(1), deletion(2)], generation="25")
    first(storage)
    last(storage, document(3), deletion(5))
    assert texts(storage) == {"1": "text", "2": "corrected", "3": "text", "4": "text", "6": "text"}
    assert events(storage, 1) == ["added", "deleted", "restored"]
    assert events(storage, 5) == ["added", "deleted"]


def test_updates_go_on_afterwards(storage: Storage) -> None:
    first(storage)
    last(storage)
    bring(storage, "26/3", [deletion(1), document(3, "again"), reject(2, withdraws=1)], generation="26")
    assert texts(storage) == {"3": "again", "4": "text", "5": "text", "6": "text"}


def test_a_complete_generation_in_one_file(storage: Storage) -> None:
    bring(storage, "26", [document(2), document(9)], generation="26", generation_complete=True)
    assert texts(storage) == {"2": "text", "9": "text"}


def test_an_empty_one_removes_all(storage: Storage) -> None:
    bring(storage, "26", [], generation="26", generation_complete=True)
    assert texts(storage) == {}


def test_one_of_a_corpus_that_had_none_is_a_new_one(storage: Storage) -> None:
    with open_writer(storage, "other") as writer:
        apply(writer, "a query", [document(1), document(2)])
        apply(writer, "26/1", [document(1)], generation="26")
        assert Snapshot(storage).counts("other")["alive"] == 2
        apply(writer, "26/2", [document(3)], generation="26", generation_complete=True)
    assert Snapshot(storage).counts("other")["alive"] == 2
    assert Snapshot(storage).counts("other")["deleted"] == 1


def test_one_that_its_publisher_gave_up_is_forgotten(storage: Storage) -> None:
    before = exported(storage)
    first(storage)
    bring(storage, "27/1", [document(4), document(7)], generation="27")
    assert exported(storage) == before
    bring(storage, "27/2", [document(3)], generation="27", generation_complete=True)
    assert texts(storage) == {"3": "text", "4": "text", "7": "text"}
    assert events(storage, 2) == ["added", "removed"]
    assert [row["name"] for row in Snapshot(storage).files("toy")] == ["25/1", "25/2", "27/1", "27/2"]
    with open_writer(storage, "toy") as writer:
        assert writer.next_number == 6  # the number of the forgotten file is not given again
    with pytest.raises(manifests.CorpusError, match="nothing is known of 'toy:5'"):
        Snapshot(storage).history("toy:5")


def test_an_update_of_the_old_one_forgets_it(storage: Storage) -> None:
    first(storage)
    bring(storage, "25/3", [document(1, "corrected")], generation="25")
    assert texts(storage) == OLD | {"1": "corrected"}
    assert state(storage).staging is None


def test_compaction_keeps_what_is_on_its_way(storage: Storage) -> None:
    before = exported(storage)
    first(storage)
    maintenance.compact(storage, keep=1)
    assert exported(storage) == before
    assert last(storage) == {"added": 1, "removed": 1}
    assert texts(storage) == {"1": "text", "2": "corrected", "4": "text", "5": "text", "6": "text"}


def test_another_source_may_publish_meanwhile(storage: Storage) -> None:
    first(storage)
    with open_writer(storage, "other") as writer, open_writer(storage, "toy") as toy:
        apply(writer, "x", [document("other")])
        apply(toy, "26/1b", [document(8)], generation="26")
        apply(writer, "y", [document("another")])
    last(storage)
    assert Snapshot(storage).counts("other")["alive"] == 2
    assert texts(storage, sources=["toy"]) == {
        "1": "text", "2": "corrected", "4": "text", "5": "text", "6": "text", "8": "text",
    }  # fmt: skip
