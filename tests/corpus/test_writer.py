"""What raw files do to the corpus: versions, deletions, retractions, whole files and generations."""

from __future__ import annotations

from pathlib import Path

import pytest

from corpus.toys import (
    DATE,
    apply,
    assert_sound,
    bring,
    deletion,
    document,
    events,
    exported,
    reject,
    texts,
)
from medllm_ops.corpus import items as items_module
from medllm_ops.corpus import manifest as manifests
from medllm_ops.corpus.lease import LeaseError
from medllm_ops.corpus.manifest import CorpusError
from medllm_ops.corpus.reader import Snapshot
from medllm_ops.corpus.storage import Storage
from medllm_ops.corpus.writer import open_writer
from medllm_ops.fetch.base import FetchedFile
from medllm_ops.records import LedgerEntry


@pytest.fixture(autouse=True)
def is_sound(request: pytest.FixtureRequest, storage: Storage) -> object:
    """Whatever a test did, the corpus it leaves is sound."""
    yield
    assert_sound(storage)


def test_a_raw_file_is_a_version_with_all_that_is_known_of_it(storage: Storage) -> None:
    applied = bring(storage, "one", [document(1), document(2, retracted=True), reject(3)], watermark={"day": 1})
    assert applied.version == 1
    assert applied.ledger.to_row() == {"step": "corpus toy", "in": 3, "out": 2, "dropped": {"no abstract": 1}}
    assert applied.events == {"added": 2, "retracted": 1}
    (row,) = Snapshot(storage).files("toy")
    assert row == {
        "number": 1, "name": "one", "checksum": row["checksum"], "sha256": "a digest", "url": "", "generation": "",
        "date": DATE, "watermark": '{"day":1}',
        "ledger": applied.ledger.to_row() | {"events": {"added": 2, "retracted": 1}, "rejects": 1},
    }  # fmt: skip
    assert list(Snapshot(storage).rejects("toy")) == [
        {"number": 1, "file": "one", "position": "somewhere", "id": "toy:3", "reason": "no abstract", "detail": "",
         "excerpt": ""}
    ]  # fmt: skip
    with open_writer(storage, "toy") as writer:
        assert writer.known.files == {"one": row["checksum"]}
        assert writer.known.watermark == {"day": 1}
        assert writer.next_number == 2


def test_the_latest_version_wins(storage: Storage) -> None:
    bring(storage, "one", [document(1, "first"), document(2, "second", version=2)])
    bring(storage, "two", [document(1, "corrected"), document(2, "older", version=1), document(3, "third")])
    assert texts(storage) == {"1": "corrected", "2": "second", "3": "third"}
    assert events(storage, 1) == ["added", "changed"]
    assert Snapshot(storage).files("toy")[1]["ledger"]["dropped"] == {"older than the corpus": 1}


def test_what_is_deleted_is_a_fact_and_its_text_is_gone(storage: Storage) -> None:
    bring(storage, "one", [document(1), document(2)])
    bring(storage, "two", [deletion(1), deletion(99)])
    assert texts(storage) == {"2": "text"}
    row = Snapshot(storage).get("toy:1")[1]
    assert (row["deleted"], row["text"], row["hash"], row["title"]) == (
        "deleted by its publisher",
        None,
        None,
        "title 1",
    )
    assert (row["file"], row["changed"]) == ("two", DATE)
    bring(storage, "three", [document(1, "again")])
    assert texts(storage) == {"1": "again", "2": "text"}
    assert events(storage, 1) == ["added", "deleted", "restored"]


def test_what_came_and_went_in_one_file_is_known(storage: Storage) -> None:
    bring(storage, "one", [document(1, version=2), deletion(1)])
    assert texts(storage) == {}
    assert Snapshot(storage).get("toy:1")[1]["version"] == 2
    assert Snapshot(storage).counts("toy") == {"alive": 0, "retracted": 0, "deleted": 1, "rejects": 0, "files": 1}
    bring(storage, "two", [document(1, "again")])
    assert events(storage, 1) == ["added", "deleted", "restored"]


def test_what_changed_and_went_in_one_file_is_buried_once(storage: Storage) -> None:
    bring(storage, "one", [document(1), document(2)])
    bring(storage, "two", [document(1, "new", version=2, retracted=True), deletion(1), deletion(2)])
    assert Snapshot(storage).counts("toy")["deleted"] == 2
    row = Snapshot(storage).get("toy:1")[1]
    assert (row["version"], row["retracted"], row["text"]) == (2, True, None)
    bring(storage, "three", [document(1)])
    assert events(storage, 1) == ["added", "changed", "retracted", "deleted", "restored", "reinstated"]


def test_retracted_and_reinstated(storage: Storage) -> None:
    bring(storage, "one", [document(1), document(2)])
    bring(storage, "two", [document(1, retracted=True)])
    assert texts(storage) == {"2": "text"}
    assert texts(storage, retracted=True) == {"1": "text", "2": "text"}
    assert Snapshot(storage).counts("toy")["retracted"] == 1
    bring(storage, "three", [document(1)])
    assert texts(storage) == {"1": "text", "2": "text"}
    assert events(storage, 1) == ["added", "changed", "retracted", "changed", "reinstated"]


def test_an_older_state_goes_when_a_newer_one_has_nothing_to_train_on(storage: Storage) -> None:
    bring(storage, "one", [document(1), document(2, version=3), document(3)])
    bring(storage, "two", [reject(1, withdraws=1), reject(2, withdraws=2), reject(3), reject(4, withdraws=1)])
    assert texts(storage) == {"2": "text", "3": "text"}
    assert events(storage, 1) == ["added", "withdrawn"]
    assert Snapshot(storage).get("toy:1")[1]["deleted"] == "no abstract"
    assert Snapshot(storage).counts("toy")["rejects"] == 4


def test_unchanged_records_write_nothing_and_change_no_byte(storage: Storage) -> None:
    records = [document(n) for n in range(100)]
    bring(storage, "one", records)
    before = exported(storage)
    tables = manifests.read(storage).source("toy").tables
    applied = bring(storage, "two", records)
    assert applied.ledger.dropped == {"already in the corpus, unchanged": 100}
    assert applied.events == {}
    assert exported(storage) == before
    after = manifests.read(storage).source("toy").tables
    assert {name for name in after if after[name] != tables[name]} == {"files"}


def test_a_file_of_many_chunks(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(items_module, "_BATCH_ROWS", 7)
    monkeypatch.setattr(items_module, "_CHUNK_ROWS", 20)
    bring(storage, "one", [*(document(n) for n in range(100)), *(deletion(n) for n in range(50)), document(3, "new")])
    bring(storage, "two", [*(document(n, "changed") for n in range(60, 200)), deletion(70), deletion(3)])
    truth = {str(n): "text" for n in range(50, 60)} | {str(n): "changed" for n in range(60, 200) if n != 70}
    assert texts(storage) == truth
    assert events(storage, 3) == ["added", "deleted", "restored", "deleted"]


def test_more_deletions_than_one_look_finds(storage: Storage) -> None:
    bring(storage, "one", [document(n) for n in range(10_000)])
    applied = bring(storage, "two", [deletion(n) for n in range(1, 10_000)])
    assert applied.events == {"deleted": 9999}
    assert texts(storage) == {"0": "text"}
    assert Snapshot(storage).counts("toy")["deleted"] == 9999


@pytest.mark.parametrize("name", ["it's", "a'' OR 1=1 --", 'quo"te', "back\\slash", "new\nline", "很长 ☃", "100%_"])
def test_odd_characters_in_ids_and_names(storage: Storage, name: str) -> None:
    bring(storage, name, [document(name), document("other")], whole=True)
    assert Snapshot(storage).get(f"toy:{name}")[1]["title"] == f"title {name}"
    bring(storage, "b", [deletion(name)])
    assert events(storage, name) == ["added", "deleted"]
    bring(storage, name, [document(name, "new")], whole=True)
    assert texts(storage) == {name: "new"}
    bring(storage, name, None)
    assert texts(storage) == {}


@pytest.mark.parametrize("source", ["", "..", "a/b", "A", "a b", "a'b", ".hidden", "ä"])
def test_a_source_with_an_odd_name_is_refused(storage: Storage, source: str) -> None:
    with pytest.raises(CorpusError, match="a source's name is lower-case letters"), open_writer(storage, source):
        pass


def test_a_raw_file_whose_name_is_not_unicode_is_refused(storage: Storage) -> None:
    with pytest.raises(CorpusError, match=r"the raw file 'a\\udcff' cannot be applied: its name is not Unicode"):
        bring(storage, "a\udcff", [document(1)])


def test_a_changed_file_takes_what_it_no_longer_holds(storage: Storage) -> None:
    bring(storage, "a", [document(1), document(2), document(3)], whole=True)
    bring(storage, "b", [document(3), document(4)], whole=True)
    applied = bring(storage, "a", [document(1, "changed"), document(5)], whole=True)
    assert applied.events == {"changed": 1, "added": 1, "removed": 1}
    assert texts(storage) == {"1": "changed", "3": "text", "4": "text", "5": "text"}
    assert Snapshot(storage).get("toy:2")[1]["deleted"] == "no longer in its file"
    applied = bring(storage, "b", None)
    assert applied.events == {"removed": 2}
    assert texts(storage) == {"1": "changed", "5": "text"}
    assert Snapshot(storage).get("toy:3")[1]["deleted"] == "its file was removed"
    with open_writer(storage, "toy") as writer:
        assert {*writer.known.files} == {"a"}


def test_a_row_that_two_files_hold_stays_while_one_does(storage: Storage) -> None:
    for name in "abc":
        bring(storage, name, [document(1), document(name)], whole=True)
    bring(storage, "a", None)
    bring(storage, "b", [document("b")], whole=True)
    assert texts(storage) == {"1": "text", "b": "text", "c": "text"}
    bring(storage, "c", None)
    assert texts(storage) == {"b": "text"}
    bring(storage, "a", [document(1)], whole=True)
    assert events(storage, 1) == ["added", "removed", "restored"]


def test_a_file_applied_again_as_it_was_changes_nothing(storage: Storage) -> None:
    for _ in range(3):
        bring(storage, "a", [document(1), document(1), document(2)], whole=True)
    assert texts(storage) == {"1": "text", "2": "text"}
    assert Snapshot(storage).table("toy", "members").rows() == 2


def test_a_file_that_was_never_there_may_go(storage: Storage) -> None:
    bring(storage, "a", None)
    assert texts(storage) == {}


def test_what_was_left_out_before_is_counted(storage: Storage, tmp_path: Path) -> None:
    with open_writer(storage, "toy") as writer:
        raw = FetchedFile(name="a", path=tmp_path)
        applied = writer.apply(raw, None, not_sampled={"not in the sample": 7})
    assert applied.ledger.to_row() == {"step": "corpus toy", "in": 7, "out": 0, "dropped": {"not in the sample": 7}}


def test_a_ledger_that_does_not_balance_publishes_nothing(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    bring(storage, "one", [document(1)])
    with open_writer(storage, "toy") as writer:
        with monkeypatch.context() as patch:
            patch.setattr(LedgerEntry, "check", lambda ledger: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                apply(writer, "two", [document(1, "wrong"), document(2)])
        assert texts(storage) == {"1": "text"}
        apply(writer, "three", [document(3)])  # the same writer goes on, and nothing of "two" comes along
    assert texts(storage) == {"1": "text", "3": "text"}
    assert [row["name"] for row in Snapshot(storage).files("toy")] == ["one", "three"]


def test_a_writer_is_of_no_use_after_its_block(storage: Storage) -> None:
    with open_writer(storage, "toy") as writer:
        pass
    with pytest.raises(LeaseError, match="was given back"):
        apply(writer, "one", [document(1)])


def test_small_fragments_are_joined_on_the_way(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    from medllm_ops.corpus import table

    monkeypatch.setattr(table, "_SMALL_FRAGMENTS", 5)
    with open_writer(storage, "toy") as writer:
        for n in range(20):
            apply(writer, f"file {n}", [document(n), document(0, f"text {n}")])
    assert texts(storage) == {str(n): "text" for n in range(1, 20)} | {"0": "text 19"}
    assert [row["name"] for row in Snapshot(storage).files("toy")] == [f"file {n}" for n in range(20)]
    assert texts(storage, 10) == {str(n): "text" for n in range(1, 10)} | {"0": "text 9"}
    for name in ("records", "events", "files"):
        assert len(Snapshot(storage).table("toy", name)._data.get_fragments()) <= 6
