from __future__ import annotations

from corpus.toys import apply, bring, document
from medllm_ops.corpus import manifest as manifests
from medllm_ops.corpus.history import End, History, read_history
from medllm_ops.corpus.maintenance import compact
from medllm_ops.corpus.storage import Storage
from medllm_ops.corpus.writer import open_writer


def latest(storage: Storage) -> int:
    return manifests.read(storage).version


def test_nothing_has_no_history(storage: Storage) -> None:
    assert read_history(storage, 0) == History([], [])


def test_a_refresh_of_several_files_ends_once(any_storage: Storage) -> None:
    with open_writer(any_storage, "toy") as writer:
        for number in (1, 2, 3):
            apply(writer, f"file {number}", [document(number)])
    bring(any_storage, "file 4", [document(4)])
    assert read_history(any_storage, 4) == History([End(3, "toy"), End(4, "toy")], [])
    assert read_history(any_storage, 4, since=3) == History([End(4, "toy")], [])
    assert read_history(any_storage, 4, since=4) == History([], [])


def test_a_refresh_that_runs_has_no_end_yet(storage: Storage) -> None:
    bring(storage, "file 1", [document(1)])
    with open_writer(storage, "toy") as writer:
        apply(writer, "file 2", [document(2)])
        assert read_history(storage, 2) == History([End(1, "toy")], [End(2, "toy")])
        apply(writer, "file 3", [document(3)])
    assert read_history(storage, 3) == History([End(1, "toy"), End(3, "toy")], [])
    assert read_history(storage, 2) == History([End(1, "toy")], [End(2, "toy")])


def test_a_refresh_that_has_begun_and_brought_nothing_leaves_the_one_before_at_its_end(storage: Storage) -> None:
    bring(storage, "file 1", [document(1)])
    with open_writer(storage, "toy"):
        assert read_history(storage, 1) == History([End(1, "toy")], [])


def test_refreshes_of_two_sources_at_once_end_each_at_its_own_last_version(storage: Storage) -> None:
    with open_writer(storage, "toy") as one, open_writer(storage, "other") as other:
        apply(one, "file 1", [document(1)])
        apply(other, "file 1", [document(1)])
        apply(one, "file 2", [document(2)])
        apply(other, "file 2", [document(2)])
    bring(storage, "file 3", [document(3)])
    ends = [End(3, "toy"), End(4, "other"), End(5, "toy")]
    assert read_history(storage, 5) == History(ends, [])
    assert read_history(storage, 4) == History(ends[:2], [])
    assert read_history(storage, 3) == History(ends[:1], [End(2, "other")])
    assert read_history(storage, 5, since=4) == History(ends[2:], [])


def test_what_was_cleaned_away_is_not_told(storage: Storage) -> None:
    for number in range(1, 7):
        bring(storage, f"file {number}", [document(number)])
    compact(storage, keep=2)
    last = latest(storage)
    ends = read_history(storage, last).ends
    assert ends[-1] == End(last, "toy")
    assert len(ends) == 2
    assert read_history(storage, last, since=last - 1).ends == ends[-1:]
