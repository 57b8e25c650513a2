"""One refresh: every new raw file whole, once, in order; what fails is said and loses nothing."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.corpus.lease import LeaseError
from medllm_ops.corpus.reader import Snapshot
from medllm_ops.corpus.storage import Storage, open_storage
from medllm_ops.errors import MedllmError
from medllm_ops.fetch.base import FetchedFile, FetchError
from medllm_ops.refresh.refresh import rebuild
from medllm_ops.refresh.refresh import refresh as refresh_with
from medllm_ops.refresh.summary import Refreshed
from medllm_ops.sources.base import Parsed
from refresh.toy_source import SOURCE, Settings
from refresh.toy_source import fetch as toy_fetch


def refresh(settings: Settings, storage: Storage, keep_raw: bool = True, workers: int = 1) -> Refreshed:
    # One worker parses in this process: to start others takes longer than the test.
    return refresh_with(SOURCE, settings, storage, keep_raw=keep_raw, workers=workers)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDLLM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path / "corpus"))


@pytest.fixture
def publisher(tmp_path: Path) -> Path:
    folder = tmp_path / "publisher"
    folder.mkdir()
    for number in range(5):
        lines = [f"{row} text {number}" for row in range(number, number + 3)]
        (folder / f"{number}.txt").write_text("\n".join(lines))
    return folder


def texts(storage: Storage) -> dict[str, str]:
    return {record.id: record.text for record in Snapshot(storage).records("toy")}  # type: ignore[union-attr]


TRUTH = {f"toy:{row}": f"text {min(row, 4)}" for row in range(7)}


@pytest.mark.parametrize("workers", [1, 2])
def test_all_files_in_order_whatever_the_number_of_workers(publisher: Path, storage: Storage, workers: int) -> None:
    refreshed = refresh(Settings(folder=publisher), storage, workers=workers)
    assert [applied.name for applied in refreshed.files] == [f"{number}.txt" for number in range(5)]
    assert texts(storage) == TRUTH
    assert refreshed.summary() | {"seconds": 0} == {
        "source": "toy",
        "files": 5,
        "in": 15,
        "events": {"added": 7, "changed": 8},
        "rejected": 0,
        "dropped": {},
        "version": 5,
        "seconds": 0,
    }


def test_a_second_refresh_with_nothing_new_changes_nothing(publisher: Path, storage: Storage, tmp_path: Path) -> None:
    refresh(Settings(folder=publisher), storage)
    Snapshot(storage).export(tmp_path / "first.jsonl")
    assert refresh(Settings(folder=publisher), storage).summary()["files"] == 0
    assert Snapshot(storage).version == 5
    Snapshot(storage).export(tmp_path / "second.jsonl")
    assert (tmp_path / "first.jsonl").read_bytes() == (tmp_path / "second.jsonl").read_bytes()


def test_the_next_refresh_goes_on_where_this_one_stopped(publisher: Path, storage: Storage) -> None:
    assert refresh(Settings(folder=publisher, max_files=2), storage).summary()["files"] == 2
    assert refresh(Settings(folder=publisher), storage).summary()["files"] == 3
    assert texts(storage) == TRUTH


@pytest.mark.parametrize(("fail_after", "workers"), [(1, 1), (1, 2), (4, 2)])
def test_what_came_before_a_failure_is_in_the_corpus(
    publisher: Path, storage: Storage, fail_after: int, workers: int
) -> None:
    with pytest.raises(FetchError, match=rf"{fail_after}\.txt: the publisher does not answer"):
        refresh(Settings(folder=publisher, fail_after=fail_after), storage, workers=workers)
    assert [row["name"] for row in Snapshot(storage).files("toy")] == [f"{n}.txt" for n in range(fail_after)]


def test_an_unreadable_file_of_a_series_stops_it_there(publisher: Path, storage: Storage) -> None:
    (publisher / "2.txt").write_text("unreadable")
    with pytest.raises(MedllmError, match=r"2\.txt cannot be applied: is no toy"):
        refresh(Settings(folder=publisher), storage)
    assert [row["name"] for row in Snapshot(storage).files("toy")] == ["0.txt", "1.txt"]


def test_an_unreadable_file_that_stands_alone_is_a_reject(publisher: Path, storage: Storage) -> None:
    (publisher / "2.txt").write_text("unreadable")
    refresh(Settings(folder=publisher, whole=True), storage)
    assert [(row["file"], row["reason"], row["detail"]) for row in Snapshot(storage).rejects("toy")] == [
        ("2.txt", "unreadable file", "is no toy")
    ]


def test_a_file_that_became_unreadable_takes_nothing_along(publisher: Path, storage: Storage, tmp_path: Path) -> None:
    settings = Settings(folder=publisher, whole=True)
    refresh(settings, storage)
    before = texts(storage)
    (publisher / "4.txt").write_text("unreadable")
    refresh(settings, storage)
    assert texts(storage) == before
    assert [row["file"] for row in Snapshot(storage).rejects("toy")] == ["4.txt"]
    # Nor when the corpus is made anew, nor later: the file still holds what it brought.
    rebuild(SOURCE, storage, open_storage(str(tmp_path / "again")))
    assert texts(open_storage(str(tmp_path / "again"))) == before
    (publisher / "4.txt").write_text("6 text 4")
    refresh(settings, storage)
    assert sorted(texts(storage)) == sorted(before)
    (publisher / "4.txt").unlink()
    refresh(settings, storage)
    assert sorted(texts(storage)) == [f"toy:{row}" for row in range(6)]


def test_a_changed_and_a_removed_file_take_their_records_along(publisher: Path, storage: Storage) -> None:
    settings = Settings(folder=publisher, whole=True)
    refresh(settings, storage)
    (publisher / "4.txt").write_text("6 new text")
    (publisher / "0.txt").unlink()
    refresh(settings, storage)
    # 1 and 2 stay: the file 1.txt holds them, too.
    assert sorted(texts(storage)) == [f"toy:{row}" for row in range(1, 7)]
    assert texts(storage)["toy:6"] == "new text"
    assert Snapshot(storage).get("toy:0")[1]["deleted"] == "its file was removed"


def test_fetched_copies_go_and_the_users_own_files_stay(publisher: Path, storage: Storage, home: Path) -> None:
    refresh(Settings(folder=publisher, max_files=2), storage)
    refresh(Settings(folder=publisher, copies=False), storage)
    assert len(list(publisher.iterdir())) == 5
    assert [path for path in home.rglob("*") if path.is_file()] == []


def test_a_corpus_is_rebuilt_from_its_raw_files(publisher: Path, storage: Storage, tmp_path: Path) -> None:
    refresh(Settings(folder=publisher), storage)
    (publisher / "5.txt").write_text("-0\n1 corrected\n9\n")
    refresh(Settings(folder=publisher), storage)
    for path in publisher.iterdir():
        path.unlink()
    again = open_storage(str(tmp_path / "again"))
    assert rebuild(SOURCE, storage, again).summary()["files"] == 6
    for name, place in (("old", storage), ("new", again)):
        Snapshot(place).export(tmp_path / name, retracted=True)
    assert (tmp_path / "old").read_bytes() == (tmp_path / "new").read_bytes()
    for record in TRUTH:
        assert Snapshot(storage).history(record) == Snapshot(again).history(record)
    assert Snapshot(storage).files("toy") == Snapshot(again).files("toy")
    assert list(Snapshot(storage).rejects("toy")) == list(Snapshot(again).rejects("toy"))


def test_a_raw_file_that_is_another_than_was_applied_is_refused(
    publisher: Path, storage: Storage, tmp_path: Path
) -> None:
    refresh(Settings(folder=publisher), storage)
    log = tmp_path / "corpus" / "raw" / "log" / "toy"
    (log / f"{2:012}.json").write_bytes((log / f"{1:012}.json").read_bytes().replace(b'"number":1', b'"number":2'))
    with pytest.raises(MedllmError, match=r"raw file 2 of toy, 0\.txt, is not the one that was applied"):
        rebuild(SOURCE, storage, open_storage(str(tmp_path / "again")))


def test_a_rebuild_goes_on_and_is_never_mixed_with_anything_else(
    publisher: Path, storage: Storage, tmp_path: Path
) -> None:
    again = open_storage(str(tmp_path / "again"))
    with pytest.raises(MedllmError, match=r"corpus: there is nothing of toy to rebuild"):
        rebuild(SOURCE, storage, again)
    refresh(Settings(folder=publisher, max_files=2), storage)
    rebuild(SOURCE, storage, again)
    refresh(Settings(folder=publisher), storage)
    assert rebuild(SOURCE, storage, again).summary()["files"] == 3
    assert texts(again) == TRUTH
    with pytest.raises(MedllmError, match="name another place than the corpus itself"):
        rebuild(SOURCE, storage, storage)
    (publisher / "0.txt").write_text("0 another")
    other = open_storage(str(tmp_path / "other"))
    refresh(Settings(folder=publisher), other)
    with pytest.raises(MedllmError, match=r"other holds another raw file 1 of toy than .*corpus: name an empty place"):
        rebuild(SOURCE, storage, other)
    assert texts(other)["toy:0"] == "another"


def test_a_corpus_whose_raw_files_were_not_kept_says_so(publisher: Path, storage: Storage, tmp_path: Path) -> None:
    refresh(Settings(folder=publisher), storage, keep_raw=False)
    assert not (tmp_path / "corpus" / "raw").exists()
    with pytest.raises(MedllmError, match="raw file 1 of toy was not kept: nothing can be rebuilt"):
        rebuild(SOURCE, storage, open_storage(str(tmp_path / "again")))


def test_the_log_tells_files_records_speed_and_time_left_and_ends_with_the_summary(
    publisher: Path, storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "medllm_ops")
    (publisher / "1.txt").write_text("-0\n1 corrected\n9\n8 text 1")

    def fetch(*arguments: Any) -> Iterator[FetchedFile]:
        yield from (dataclasses.replace(raw, left=4 - n) for n, raw in enumerate(toy_fetch(*arguments)))

    source = dataclasses.replace(SOURCE, fetch=fetch)
    refresh_with(source, Settings(folder=publisher, max_files=2), storage, workers=1)
    lines = [record.getMessage() for record in caplog.records]
    assert re.fullmatch(
        r"1\.txt: 4 in, 1 new, 1 changed, 1 deleted, 0 retracted, 1 rejected; corpus version 2; "
        r"\d\.\d MB/s and \d+ records/s so far; file 2 of 2; about 0:00:00 left",
        lines[1],
    )
    assert lines[2:] == [
        "0.txt: 3 new, 0 changed, 0 deleted, 0 retracted, 0 rejected",
        "1.txt: 1 new, 1 changed, 1 deleted, 0 retracted, 1 rejected",
        "in all: 4 new, 1 changed, 1 deleted, 0 retracted, 1 rejected",
        "1 × deletion notice",
        "1 × no text",
    ]


@pytest.mark.parametrize("is_removed", [False, True])
def test_who_slept_through_its_lease_is_told_so_and_writes_no_log_of_raw_files(
    publisher: Path, storage: Storage, tmp_path: Path, is_removed: bool
) -> None:
    def fetch(*arguments: Any) -> Iterator[FetchedFile]:
        for number, raw in enumerate(toy_fetch(*arguments)):
            if number == 1:  # another process takes over, and clears away what is left
                storage.create(f"leases/toy/{2:012}.json", storage.read(f"leases/toy/{1:012}.json"))
                for path in (tmp_path / "home").rglob("0.txt") if is_removed else ():
                    path.unlink()
            yield raw

    with pytest.raises(LeaseError, match="the lease on toy went to process"):
        refresh_with(dataclasses.replace(SOURCE, fetch=fetch), Settings(folder=publisher), storage, workers=1)
    assert storage.keys("raw/") == []


def test_two_corpora_are_refreshed_at_once_and_nothing_is_mixed(
    publisher: Path, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "0.txt").write_text("0 of another publisher")
    second = open_storage(str(tmp_path / "second"))

    def fetch(*arguments: Any) -> Iterator[FetchedFile]:
        for raw in toy_fetch(*arguments):
            if not Snapshot(second).sources:
                refresh(Settings(folder=other), second)
            yield raw

    refresh_with(dataclasses.replace(SOURCE, fetch=fetch), Settings(folder=publisher), storage, workers=1)
    assert texts(storage) == TRUTH
    assert texts(second) == {"toy:0": "of another publisher"}


def test_a_second_rebuild_at_once_does_not_disturb_the_first(publisher: Path, storage: Storage, tmp_path: Path) -> None:
    refresh(Settings(folder=publisher), storage)
    again = open_storage(str(tmp_path / "again"))

    def parse(path: Path) -> Iterator[Parsed]:
        with pytest.raises(MedllmError, match="toy is being written by process"):
            rebuild(SOURCE, storage, again)
        yield from SOURCE.parse(path)

    rebuild(dataclasses.replace(SOURCE, parse=parse), storage, again)
    assert texts(again) == TRUTH


def test_a_source_that_nobody_fetches_says_what_to_do(storage: Storage) -> None:
    with pytest.raises(MedllmError, match="source toy cannot be fetched: convert its files"):
        refresh_with(dataclasses.replace(SOURCE, fetch=None), Settings(folder=Path()), storage)
