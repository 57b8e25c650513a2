"""Where a record lived in the corpus, and where it stands in datasets."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from corpus.toys import apply, bring, deletion, document
from lineage.frozen import freeze
from medllm_ops.corpus.maintenance import compact
from medllm_ops.corpus.reader import Snapshot
from medllm_ops.corpus.storage import Storage
from medllm_ops.corpus.writer import open_writer
from medllm_ops.datasets.lineage import life_of, places_of, removed_row
from medllm_ops.datasets.retracted import RetractedError, check_retracted, retracted_share
from medllm_ops.datasets.store import every_dataset
from medllm_ops.errors import MedllmError


def test_a_life_of_several_spans(storage: Storage) -> None:
    bring(storage, "file 1", [document(number) for number in range(5)])  # version 1
    with open_writer(storage, "other") as writer:
        apply(writer, "file 1", [document("x")])  # 2
    bring(storage, "file 2", [document(1, "new"), deletion(2)])  # 3
    bring(storage, "file 3", [document(2, "back", retracted=True), deletion(1)])  # 4
    bring(storage, "file 4", [document(9), deletion(9)])  # 5
    snapshot = Snapshot(storage)
    two = life_of(snapshot, "toy:2")
    assert two is not None
    assert [(fact.event, fact.corpus_version) for fact in two.facts] == [
        ("added", 1),
        ("deleted", 3),
        ("restored", 4),
        ("retracted", 4),
    ]
    assert (two.lived, two.alive, two.retracted, two.source) == ([(1, 2), (4, None)], True, True, "toy")
    assert all(fact.is_first for fact in two.facts)
    one = life_of(snapshot, "toy:1")
    assert one is not None
    assert (one.lived, one.alive) == ([(1, 3)], False)
    nine = life_of(snapshot, "toy:9")
    assert nine is not None
    assert (nine.lived, nine.alive) == ([], False)
    assert life_of(snapshot, "toy:10") is None
    earlier = life_of(Snapshot(storage, 3), "toy:2")
    assert earlier is not None
    assert earlier.lived == [(1, 2)]


def test_what_was_before_the_oldest_version_that_is_left_is_told_so(storage: Storage) -> None:
    for number in range(6):
        bring(storage, f"file {number}", [document(number)])
    compact(storage, keep=2)
    bring(storage, "file 9", [deletion(1), document(7)])
    life = life_of(Snapshot(storage), "toy:1")
    assert life is not None
    added, deleted = life.facts
    assert (added.event, added.is_first) == ("added", False)
    assert (deleted.event, deleted.is_first) == ("deleted", True)
    assert deleted.corpus_version == Snapshot(storage).version
    last = life_of(Snapshot(storage), "toy:7")
    assert last is not None
    assert (last.facts[0].corpus_version, last.facts[0].is_first) == (Snapshot(storage).version, True)


def test_places_in_datasets() -> None:
    removed = [
        {"id": "toy:10", "step": "clean", "reason": "too short", "source": "toy"},
        {"id": 'toy:"1', "step": "near dedup", "reason": "near duplicate", "kept": "toy:1", "source": "toy"},
        {"id": "toy:8", "step": "near dedup", "reason": "near duplicate", "kept": "toy:9", "source": "toy"},
        {"id": "toy:9", "step": "split", "reason": "val_conflict", "source": "toy"},
    ]
    rows = {"toy": {"toy:1#1": "a", "toy:1#2": "b"}}
    freeze("med", 1, rows, {}, removed=removed, records={"toy:1"})
    freeze("med", 2, {"toy": {"toy:2": "a"}}, rows)

    def told(record_id: str) -> list[tuple[str, ...]]:
        places = places_of(record_id, every_dataset())
        return [(str(one.dataset), one.source, one.side, one.step, one.reason, one.kept) for one in places]

    assert told("toy:1") == [("med@1", "toy", "train", "", "", ""), ("med@2", "toy", "val", "", "", "")]
    assert told("toy:2") == [("med@2", "toy", "train", "", "", "")]
    assert told('toy:"1') == [("med@1", "toy", "", "near dedup", "near duplicate", "toy:1")]
    assert told("toy:9") == [("med@1", "toy", "", "split", "val_conflict", "")]
    assert told("toy:") == []


def test_a_row_of_removed_is_found_first_and_last_and_not_by_part_of_its_id(tmp_path: Path) -> None:
    path = tmp_path / "removed.jsonl"
    assert removed_row(path, "a") is None
    path.write_bytes(b"")
    assert removed_row(path, "a") is None
    path.write_bytes(b'{"id":"a","step":"x"}\n{"id":"bb","kept":"c"}\n{"id":"b","detail":"\\"id\\":\\"d\\""}')
    assert removed_row(path, "a") == {"id": "a", "step": "x"}
    assert removed_row(path, "b") == {"id": "b", "detail": '"id":"d"'}
    for other in ("c", "d", ""):
        assert removed_row(path, other) is None


def test_share_of_retracted_and_deleted(storage: Storage, caplog: pytest.LogCaptureFixture) -> None:
    bring(storage, "file 1", [document(number) for number in range(10)])
    rows = {"toy": {f"toy:{number}": "a" for number in range(8)}}
    dataset = freeze("med", 1, rows, {"toy": {"toy:8": "a", "toy:9#1": "a"}}, corpus=storage.url, corpus_version=1)
    assert retracted_share(dataset).share == 0
    bring(storage, "file 2", [deletion(1), document(2, retracted=True), deletion(9), deletion(3)])
    bring(storage, "file 3", [document(3), document(4, "corrected")])
    found = check_retracted(dataset, 0.25, "stop")
    assert [(hit.id, hit.side, hit.reason) for hit in found.hits] == [
        ("toy:1", "train", "deleted by its publisher"),
        ("toy:2", "train", "retracted"),
        ("toy:9", "val", "deleted by its publisher"),
    ]
    assert (found.share, found.corpus_version) == (2 / 8, 3)
    assert found.to_row()["withdrawn"] == {"train": 2, "val": 1}
    with caplog.at_level(logging.WARNING):
        check_retracted(dataset, 0.2)
    assert "2 of 8 records to train on (25.000%, allowed 20.000%)" in caplog.text
    with pytest.raises(RetractedError, match=r"med@1: 2 of 8 .* build it anew"):
        check_retracted(dataset, 0.2, "stop")


def test_a_dataset_of_another_corpus_is_looked_up_there(storage: Storage, tmp_path: Path) -> None:
    bring(storage, "file 1", [document(1), deletion(1)])
    (tmp_path / "other").mkdir()
    elsewhere = freeze("med", 1, {"toy": {"toy:1": "a"}}, {}, corpus=str(tmp_path / "other"), corpus_version=1)
    assert retracted_share(elsewhere).hits == []
    assert len(retracted_share(elsewhere, storage.url).hits) == 1
    unnamed = freeze("med", 2, {"toy": {"toy:1": "a"}}, {})
    assert len(retracted_share(unnamed).hits) == 1


def test_a_home_that_was_moved_has_its_corpus_with_it(storage: Storage, tmp_path: Path) -> None:
    bring(storage, "file 1", [document(1), deletion(1)])
    moved = freeze("med", 1, {"toy": {"toy:1": "a"}}, {}, corpus=str(tmp_path / "old" / "corpus"), corpus_version=1)
    assert len(retracted_share(moved).hits) == 1


def test_datasets_of_several_corpora_need_a_name(tmp_path: Path) -> None:
    from medllm_ops.datasets.retracted import corpus_of

    made = [freeze("med", number, {}, {}, corpus=str(tmp_path / str(number))) for number in (1, 2)]
    with pytest.raises(MedllmError, match="of several corpora"):
        corpus_of(made)
