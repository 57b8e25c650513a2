"""Raw files are kept once by their content, in the order they were applied, and come back as they were."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from medllm_ops.corpus.manifest import CorpusError
from medllm_ops.corpus.raw_store import RawStore
from medllm_ops.corpus.storage import Storage
from medllm_ops.fetch.base import FetchedFile
from medllm_ops.files import sha256_of

DATE = "2026-01-02T03:04:05Z"


@pytest.fixture
def store(any_storage: Storage) -> RawStore:
    return RawStore(any_storage, "toy")


def raw(tmp_path: Path, content: bytes = b"content", name: str = "folder/a.xml.gz", **more: object) -> FetchedFile:
    path = tmp_path / "raw"
    path.write_bytes(content)
    return FetchedFile(name=name, path=path, **more)  # type: ignore[arg-type]


def blobs(storage: Storage) -> list[str]:
    return [key.rpartition("/")[2] for key in storage.keys("raw/blobs/")]


def test_a_file_comes_back_as_it_was(store: RawStore, tmp_path: Path) -> None:
    kept = raw(
        tmp_path, url="https://x", checksum="md5", whole=True, generation="26", generation_complete=True,
        watermark={"day": [1, "x"]},
    )  # fmt: skip
    store.keep(kept, 1, DATE, {"rows": 5, "seed": 42})
    (entry,) = store.entries(1)
    assert (entry.number, entry.date, entry.sample) == (1, DATE, {"rows": 5, "seed": 42})
    assert entry.sha256 == hashlib.sha256(b"content").hexdigest() == sha256_of(tmp_path / "raw")
    (tmp_path / "out").mkdir()
    back = store.bring(entry, tmp_path / "out")
    assert back.path == tmp_path / "out" / "a.xml.gz"
    assert back.path.read_bytes() == b"content"
    for name in ("name", "url", "checksum", "whole", "generation", "generation_complete", "watermark"):
        assert getattr(back, name) == getattr(kept, name)


def test_equal_content_is_kept_once(store: RawStore, any_storage: Storage, tmp_path: Path) -> None:
    store.keep(raw(tmp_path), 1, DATE, {})
    store.keep(raw(tmp_path, name="b"), 2, DATE, {})
    RawStore(any_storage, "other").keep(raw(tmp_path), 1, DATE, {})
    store.keep(raw(tmp_path, b"more"), 3, DATE, {})
    assert sorted(blobs(any_storage)) == sorted([hashlib.sha256(text).hexdigest() for text in (b"content", b"more")])
    assert [entry.name for entry in store.entries(3)] == ["folder/a.xml.gz", "b", "folder/a.xml.gz"]


def test_a_file_that_went_is_in_the_log(store: RawStore, any_storage: Storage, tmp_path: Path) -> None:
    store.keep(FetchedFile(name="a", path=None), 1, DATE, {})
    (entry,) = store.entries(1)
    assert store.bring(entry, tmp_path) == FetchedFile(name="a", path=None)
    assert blobs(any_storage) == []


def test_the_log_is_in_the_order_of_the_numbers(store: RawStore, tmp_path: Path) -> None:
    for number in (3, 12, 1, 2, 11, *range(4, 11)):
        store.keep(raw(tmp_path, name=f"file {number}"), number, DATE, {})
    assert [entry.name for entry in store.entries(12)] == [f"file {number}" for number in range(1, 13)]
    assert [entry.number for entry in store.entries(5)] == [1, 2, 3, 4, 5]


def test_one_that_was_never_applied_is_written_over(store: RawStore, tmp_path: Path) -> None:
    store.keep(raw(tmp_path, b"killed", "killed"), 1, DATE, {})
    store.keep(raw(tmp_path, b"applied", "applied"), 1, DATE, {})
    (entry,) = store.entries(1)
    assert entry.name == "applied"
    back = store.bring(entry, tmp_path)
    assert back.path
    assert back.path.read_bytes() == b"applied"


def test_a_missing_or_damaged_log_is_said(store: RawStore, any_storage: Storage, tmp_path: Path) -> None:
    store.keep(raw(tmp_path), 2, DATE, {})
    with pytest.raises(CorpusError, match="raw file 1 of toy was not kept: nothing can be rebuilt"):
        list(store.entries(2))
    store.keep(raw(tmp_path), 1, DATE, {})
    for damaged in (b"", b'{"number": 1', b'{"number": 1}'):
        any_storage.write("raw/log/toy/000000000001.json", damaged)
        with pytest.raises(CorpusError, match=r"raw/log/toy/000000000001.json is damaged"):
            list(store.entries(2))


def test_a_missing_or_damaged_file_is_said(store: RawStore, any_storage: Storage, tmp_path: Path) -> None:
    store.keep(raw(tmp_path), 1, DATE, {})
    (entry,) = store.entries(1)
    (key,) = any_storage.keys("raw/blobs/")
    any_storage.write(key, b"contenT")
    with pytest.raises(CorpusError, match=r"raw file folder/a\.xml\.gz is damaged: its SHA-256 is no longer"):
        store.bring(entry, tmp_path)
    any_storage.delete(key)
    with pytest.raises(CorpusError, match=r"raw file folder/a\.xml\.gz \(\w{64}\) is missing from the raw store"):
        store.bring(entry, tmp_path)
