import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.fetch import folder as folders
from medllm_ops.fetch.base import FetchedFile, FetchError, Known
from medllm_ops.fetch.http import Client

Fetch = Callable[..., list[FetchedFile]]
YEAR_AGO = time.time() - 365 * 24 * 3600


def put(path: Path, text: str, age: float = YEAR_AGO) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (age, age))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "handbooks"
    put(folder / "a.docx", "A")
    put(folder / "wards" / "b.docx", "B")
    return folder


@pytest.fixture
def fetch(place: Path, tmp_path: Path) -> Fetch:
    def do(known: dict[str, str] | None = None, location: Path = place, **settings: Any) -> list[FetchedFile]:
        with Client() as client:
            given = folders.Settings(location=str(location), **settings)
            return list(folders.fetch(given, Known(files=known or {}), tmp_path / "spool", client))

    return do


def known_of(files: list[FetchedFile]) -> dict[str, str]:
    return {file.name: file.checksum for file in files}


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_each_file_comes_as_a_copy_under_its_own_name(place: Path, fetch: Fetch) -> None:
    files = fetch()
    assert known_of(files) == {"handbooks/a.docx": sha256("A"), "handbooks/wards/b.docx": sha256("B")}
    assert [file.path and (file.path.name, file.path.read_text()) for file in files] == [
        ("a.docx", "A"),
        ("b.docx", "B"),
    ]
    assert [file.url for file in files] == [(place / "a.docx").as_uri(), (place / "wards" / "b.docx").as_uri()]
    assert all(file.whole and file.path and place not in file.path.parents for file in files)


def test_nothing_new_is_nothing(fetch: Fetch) -> None:
    assert fetch(known_of(fetch())) == []


def test_new_changed_and_removed_files_are_noticed(place: Path, fetch: Fetch) -> None:
    known = known_of(fetch()) | {"policies/x.docx": "1", "rows.jsonl": "2"}
    put(place / "a.docx", "A, second edition")
    put(place / "c.docx", "C")
    (place / "wards" / "b.docx").unlink()
    assert [(file.name, file.path and file.path.read_text()) for file in fetch(known)] == [
        ("handbooks/a.docx", "A, second edition"),
        ("handbooks/c.docx", "C"),
        ("handbooks/wards/b.docx", None),
    ]


def test_a_renamed_file_is_new_before_it_is_gone(place: Path, fetch: Fetch) -> None:
    known = known_of(fetch())
    (place / "a.docx").rename(place / "z.docx")
    assert [(file.name, file.path is None) for file in fetch(known)] == [
        ("handbooks/z.docx", False),
        ("handbooks/a.docx", True),
    ]


def test_a_change_of_equal_size_is_noticed(place: Path, fetch: Fetch) -> None:
    known = known_of(fetch())
    put(place / "a.docx", "Z", YEAR_AGO + 1)
    assert [file.name for file in fetch(known)] == ["handbooks/a.docx"]


def test_a_change_at_the_time_of_the_last_refresh_is_noticed(place: Path, fetch: Fetch) -> None:
    now = time.time()
    put(place / "a.docx", "A", now)
    known = known_of(fetch())
    put(place / "a.docx", "Z", now)
    assert [file.name for file in fetch(known)] == ["handbooks/a.docx"]


def test_what_did_not_change_is_not_read_again(place: Path, fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    known = known_of(fetch())
    read: list[object] = []
    digest = hashlib.file_digest
    monkeypatch.setattr("hashlib.file_digest", lambda file, kind: read.append(file.name) or digest(file, kind))
    assert fetch(known) == []
    assert read == []
    os.utime(place / "a.docx")  # touched: read, and found to be as it was
    assert fetch(known) == []
    assert read == [str(place / "a.docx")]


def test_without_its_notes_everything_is_read_and_nothing_is_new(tmp_path: Path, fetch: Fetch) -> None:
    known = known_of(fetch())
    (tmp_path / "spool" / "seen.json").write_text("{")
    assert fetch(known) == []
    (tmp_path / "spool" / "seen.json").unlink()
    assert fetch(known) == []


def test_what_is_no_data_is_left_out(place: Path, fetch: Fetch) -> None:
    for name in (".hidden.docx", "~$a.docx", "README.md", "a.docx.md5", ".git/x.docx"):
        put(place / name, "no")
    assert len(fetch()) == 2


def test_only_the_files_that_match(place: Path, fetch: Fetch) -> None:
    put(place / "notes.txt", "text")
    assert [file.name for file in fetch(patterns="*.txt")] == ["handbooks/notes.txt"]
    assert [file.name for file in fetch(patterns=["wards/*"])] == ["handbooks/wards/b.docx"]


def test_one_file(place: Path, fetch: Fetch) -> None:
    known = {"b.docx": "1", "other.docx": "2"}
    (file,) = fetch(known, location=place / "wards" / "b.docx")
    assert (file.name, file.checksum) == ("b.docx", sha256("B"))


def test_an_empty_folder_does_not_empty_the_corpus(place: Path, fetch: Fetch) -> None:
    known = known_of(fetch())
    for path in list(place.rglob("*.docx")):
        path.unlink()
    with pytest.raises(FetchError, match=r"handbooks has no file of data: it has none at all; nothing was changed"):
        fetch(known)
    with pytest.raises(FetchError, match=r"elsewhere: there is no such folder or file; nothing was changed"):
        fetch(known, location=place / "elsewhere")


def test_a_subfolder_that_cannot_be_read_removes_nothing(
    place: Path, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = known_of(fetch())
    real = os.scandir

    def locked(path: Any) -> Any:
        if path == str(place / "wards"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", locked)
    with pytest.raises(FetchError, match=r"wards: Permission denied; nothing was changed"):
        fetch(known)


def test_a_file_that_cannot_be_read_costs_the_others_nothing(place: Path, tmp_path: Path) -> None:
    (place / "gone.docx").symlink_to(place / "nowhere.docx")
    known = Known(files={"handbooks/gone.docx": "1"})
    with Client() as client:
        files = folders.fetch(folders.Settings(location=str(place)), known, tmp_path / "spool", client)
        assert [next(files).name, next(files).name] == ["handbooks/a.docx", "handbooks/wards/b.docx"]
        with pytest.raises(FetchError, match=r"1 files could not be read: .*gone\.docx: No such file"):
            next(files)


def test_a_refresh_that_is_ended_goes_on(place: Path, fetch: Fetch, tmp_path: Path) -> None:
    with Client() as client:
        settings = folders.Settings(location=str(place))
        first = next(iter(folders.fetch(settings, Known(), tmp_path / "spool", client)))
    assert [file.name for file in fetch({first.name: first.checksum})] == ["handbooks/wards/b.docx"]


def test_what_a_killed_refresh_left_is_cleared(fetch: Fetch, tmp_path: Path) -> None:
    left = [file.path for file in fetch()]
    assert all(path and path.exists() for path in left)
    fetch(dict.fromkeys(["other"], "1"), patterns=["a.*"])
    assert [path and path.exists() for path in left] == [True, False]
