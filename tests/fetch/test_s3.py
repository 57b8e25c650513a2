"""The S3 fetcher against moto's server."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.fetch import s3
from medllm_ops.fetch.base import FetchedFile, FetchError, Known
from medllm_ops.fetch.http import Client

BUCKET = "company"
PLACE = f"s3://{BUCKET}/sets"
Fetch = Callable[..., list[FetchedFile]]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket with two sets in a folder, and what lies around it."""
    import boto3

    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    made = boto3.resource("s3").create_bucket(Bucket=BUCKET)
    for key in ("sets/a.jsonl", "sets/more/b.jsonl", "sets2/c.jsonl", "sets/README.md", "sets/.x.jsonl", "sets/dir/"):
        made.put_object(Key=key, Body=key.encode())
    yield made
    made.objects.all().delete()
    made.delete()


@pytest.fixture
def fetch(bucket: Any, tmp_path: Path) -> Fetch:
    def do(known: dict[str, str] | None = None, location: str = PLACE, **settings: Any) -> list[FetchedFile]:
        with Client() as client:
            given = s3.Settings(location=location, attempts=1, timeout=5, **settings)
            return list(s3.fetch(given, Known(files=known or {}), tmp_path / "spool", client))

    return do


def known_of(files: list[FetchedFile]) -> dict[str, str]:
    return {file.name: file.checksum for file in files}


def test_the_objects_of_a_folder_come_with_their_etags(bucket: Any, fetch: Fetch) -> None:
    files = fetch()
    assert [file.name for file in files] == [f"{PLACE}/a.jsonl", f"{PLACE}/more/b.jsonl"]
    assert [file.path and file.path.read_text() for file in files] == ["sets/a.jsonl", "sets/more/b.jsonl"]
    assert files[0].checksum == bucket.Object("sets/a.jsonl").e_tag.strip('"')
    assert all(file.whole and file.path and file.path.name == file.name.rpartition("/")[2] for file in files)


@pytest.mark.parametrize(
    ("location", "names"),
    [
        (f"{PLACE}/", ["sets/a.jsonl", "sets/more/b.jsonl"]),
        (f"{PLACE}/a.jsonl", ["sets/a.jsonl"]),
        (f"s3://{BUCKET}", ["sets/a.jsonl", "sets/more/b.jsonl", "sets2/c.jsonl"]),
    ],
)
def test_a_folder_an_object_or_a_bucket(fetch: Fetch, location: str, names: list[str]) -> None:
    assert [file.name for file in fetch(location=location)] == [f"s3://{BUCKET}/{name}" for name in names]


def test_what_is_known_is_not_downloaded(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    known = known_of(fetch())
    monkeypatch.setattr(s3, "_bring", lambda *_: pytest.fail("downloaded"))
    assert fetch(known) == []


def test_new_changed_and_removed_objects_are_noticed(bucket: Any, fetch: Fetch) -> None:
    known = known_of(fetch()) | {"s3://company/sets2/c.jsonl": "1", "local/a.jsonl": "2"}
    bucket.put_object(Key="sets/a.jsonl", Body=b"second")
    bucket.put_object(Key="sets/n.jsonl", Body=b"new")
    bucket.Object("sets/more/b.jsonl").delete()
    assert [(file.name, file.path and file.path.read_text()) for file in fetch(known)] == [
        (f"{PLACE}/a.jsonl", "second"),
        (f"{PLACE}/n.jsonl", "new"),
        (f"{PLACE}/more/b.jsonl", None),
    ]


def test_more_objects_than_a_page_of_the_listing(bucket: Any, fetch: Fetch) -> None:
    for number in range(1001):
        bucket.put_object(Key=f"many/{number:04}.jsonl", Body=b"")
    bucket.put_object(Key="many/9999.csv", Body=b"last")
    assert [file.name for file in fetch(location="s3://company/many", patterns=["*.csv"])] == [
        "s3://company/many/9999.csv"
    ]


def test_an_object_in_parts(bucket: Any, fetch: Fetch) -> None:
    content = b"0123456789" * 1_000_000
    bucket.put_object(Key="sets/a.jsonl", Body=content)
    assert fetch(patterns=["a.jsonl"])[0].path.read_bytes() == content  # type: ignore[union-attr]


def test_an_object_that_changes_while_it_is_read(bucket: Any, fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = s3._connect
    editions = iter([b"second", b"third"])

    def connected(settings: s3.Settings) -> Any:
        made = connect(settings)
        head = made.head_object

        def changed(**arguments: Any) -> Any:
            if arguments["Key"] == "sets/a.jsonl" and (edition := next(editions, None)):
                bucket.put_object(Key="sets/a.jsonl", Body=edition)
            return head(**arguments)

        made.head_object = changed
        return made

    monkeypatch.setattr(s3, "_connect", connected)
    (file,) = fetch(patterns=["a.jsonl"])
    assert file.path is not None
    assert (file.path.read_bytes(), file.checksum) == (b"third", bucket.Object("sets/a.jsonl").e_tag.strip('"'))


def test_an_object_that_is_removed_while_the_others_are_read(bucket: Any, fetch: Fetch, tmp_path: Path) -> None:
    with Client() as client:
        files = s3.fetch(s3.Settings(location=PLACE), Known(), tmp_path / "spool", client)
        assert next(files).name == f"{PLACE}/a.jsonl"
        bucket.Object("sets/more/b.jsonl").delete()
        assert list(files) == []


def test_an_empty_folder_does_not_empty_the_corpus(bucket: Any, fetch: Fetch) -> None:
    known = known_of(fetch())
    bucket.objects.filter(Prefix="sets/").delete()
    with pytest.raises(FetchError, match=r"^s3://company/sets has no file of data: it has none at all; nothing was"):
        fetch(known)


def test_a_bucket_that_is_not_there(fetch: Fetch) -> None:
    with pytest.raises(FetchError, match=r"^s3://nobodys/sets cannot be read: .*NoSuchBucket.*; check AWS_ENDPOINT"):
        fetch(location="s3://nobodys/sets")


def test_a_server_that_is_not_there(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(FetchError, match=r"cannot be read: Could not connect to the endpoint URL") as caught:
        fetch()
    assert "\n" not in str(caught.value)


def test_what_a_killed_refresh_left_is_cleared(fetch: Fetch, tmp_path: Path) -> None:
    left = [file.path for file in fetch()]
    assert all(path and path.exists() for path in left)
    fetch(dict.fromkeys(["other"], "1"), patterns=["a.*"])
    assert [path and path.exists() for path in left] == [True, False]
