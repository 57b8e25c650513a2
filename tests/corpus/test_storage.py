"""Objects are whole or absent, and of several who create one, one does: in a folder as in a bucket."""

from __future__ import annotations

import io
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.corpus.storage import Folder, Storage, StorageError, open_storage


def files(storage: Storage) -> list[str]:
    return [path.name for path in Path(storage.url).rglob("*") if path.is_file()]


def test_what_was_written_is_read(any_storage: Storage) -> None:
    any_storage.write("a/b.json", b"first")
    any_storage.write("a/b.json", b"second")
    assert any_storage.read("a/b.json") == b"second"
    any_storage.delete("a/b.json")
    any_storage.delete("a/b.json")
    with pytest.raises(KeyError):
        any_storage.read("a/b.json")


def test_a_missing_object_is_a_key_error(any_storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        any_storage.read("nothing")
    with pytest.raises(KeyError):
        any_storage.download("nothing", tmp_path / "here" / "file")
    assert not list(tmp_path.rglob("file*"))
    assert any_storage.keys("nothing/") == []


def test_created_once_it_stays(any_storage: Storage) -> None:
    assert any_storage.create("a/1", b"mine")
    assert not any_storage.create("a/1", b"yours")
    assert not any_storage.create("a/1", b"mine")
    assert any_storage.read("a/1") == b"mine"


def test_of_many_threads_one_creates(any_storage: Storage) -> None:
    storage = any_storage
    with ThreadPoolExecutor(16) as pool:
        for key in map(str, range(10)):
            created = list(pool.map(lambda data, key=key: storage.create(key, data), [b"%d" % n for n in range(16)]))
            assert Counter(created)[True] == 1
            assert storage.read(key) == b"%d" % created.index(True)
    assert storage.keys("") == sorted(map(str, range(10)))
    if isinstance(storage, Folder):
        assert len(files(storage)) == 10


def test_many_threads_write_one_key(storage: Storage) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: storage.write("key", b"%d" % n * 1000), range(100)))
    assert len({*storage.read("key").split(storage.read("key")[:1])}) <= 2
    assert files(storage) == ["key"]


def test_a_creation_that_is_repeated_is_known_as_ones_own(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    put = s3._client.put_object

    def twice(**arguments: Any) -> None:  # what boto3 does when the first answer is lost
        put(**arguments)
        put(**arguments)

    monkeypatch.setattr(s3._client, "put_object", twice)
    assert s3.create("a/1", b"mine")
    monkeypatch.undo()
    assert not s3.create("a/1", b"mine")


def test_keys_are_sorted_and_begin_so(any_storage: Storage) -> None:
    for key in ("b/2", "b/10", "b/1", "bc/1", "a", "b/c/3"):
        any_storage.write(key, b"")
    assert any_storage.keys("b/") == ["b/1", "b/10", "b/2", "b/c/3"]
    assert any_storage.keys("b/1") == ["b/1", "b/10"]
    assert any_storage.keys("b") == ["b/1", "b/10", "b/2", "b/c/3", "bc/1"]
    assert len(any_storage.keys("")) == 6


def test_more_keys_than_a_page_of_s3_holds(s3: Storage) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: s3.write(f"many/{n:04}", b""), range(1010)))
    assert s3.keys("many/") == [f"many/{n:04}" for n in range(1010)]


def test_files_go_up_and_come_down(any_storage: Storage, tmp_path: Path) -> None:
    content = os.urandom(9_000_000)  # more than one part of a multipart upload
    (tmp_path / "file").write_bytes(content)
    any_storage.upload("blobs/x", tmp_path / "file")
    assert any_storage.keys("blobs/") == ["blobs/x"]
    any_storage.download("blobs/x", tmp_path / "new" / "copy")
    assert (tmp_path / "new" / "copy").read_bytes() == content


def test_a_full_disk_leaves_nothing_half(storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.write("old", b"old")
    (tmp_path / "file").write_bytes(b"x" * 1000)

    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            super().write(bytes(data)[:2])
            raise OSError(28, "No space left on device")

    def opened(path: Path, mode: str = "r", *arguments: Any) -> Any:
        return Full(path, mode) if set(mode) & {"w", "x"} else io.open(path, mode, *arguments)  # noqa: UP020

    monkeypatch.setattr(Path, "open", opened)
    for write in (
        lambda: storage.write("old", b"new"),
        lambda: storage.create("new", b"new"),
        lambda: storage.upload("up", tmp_path / "file"),
        lambda: storage.download("old", tmp_path / "down"),
    ):
        with pytest.raises(OSError, match="No space left"):
            write()
    monkeypatch.undo()
    assert storage.read("old") == b"old"
    assert files(storage) == ["old"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "file"]


def test_what_a_killed_upload_left_is_removed_by_the_next(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"whole")
    storage.upload("blobs/x", tmp_path / "file")
    (Path(storage.url) / "blobs" / ".x.12345.part").write_bytes(b"ha")
    assert storage.keys("") == ["blobs/x"]
    storage.upload("blobs/x", tmp_path / "file")
    assert files(storage) == ["x"]


def test_where_a_corpus_may_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(open_storage("folder"), Folder)
    assert open_storage("folder").url == str(tmp_path / "folder")
    for url in ("gs://bucket/x", "https://example.org/x", "s3:///prefix"):
        with pytest.raises(StorageError, match=url):
            open_storage(url)


def test_a_missing_bucket_is_said(s3_url: str) -> None:
    storage = open_storage("s3://no-such-bucket/x")
    for act in (lambda: storage.read("a"), lambda: storage.keys(""), lambda: storage.write("a", b"")):
        with pytest.raises(StorageError, match=r"s3://no-such-bucket/x: cannot \w+ .*"):
            act()


def test_a_server_that_is_not_there_is_said(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(StorageError, match="cannot read a: Could not connect"):
        open_storage(s3_url).read("a")


def test_credentials_that_run_out_are_left_to_the_engine(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url, options = open_storage(s3_url).table("tables/x.lance")
    assert url == f"{s3_url}/tables/x.lance"
    assert options["aws_access_key_id"] == "a-key"
    assert options["aws_region"] == "eu-central-1"
    assert options["allow_http"] == "true"
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a-token")
    assert "aws_access_key_id" not in open_storage(s3_url).table("tables/x.lance")[1]


def test_a_file_is_no_empty_corpus(tmp_path: Path) -> None:
    (tmp_path / "corpus").write_text("a file")
    with pytest.raises(StorageError, match=r"corpus: cannot list manifests/: .*Not a directory"):
        open_storage(str(tmp_path / "corpus")).keys("manifests/")


def test_a_folder_that_cannot_be_read_is_no_empty_one(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.write("manifests/1.json", b"{}")

    def refuse(path: object) -> None:  # root, who may run the tests, may read everything
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(StorageError, match=r"cannot list manifests/: .*Permission denied"):
        storage.keys("manifests/")
