"""A corpus in a folder, and one in a bucket of an S3 server of our own."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.corpus.storage import Storage, open_storage

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 server on a free port."""
    from moto.s3.responses import S3Response
    from moto.server import ThreadedMotoServer

    one_at_a_time, put = threading.Lock(), S3Response.put_object

    def put_object(response: Any) -> Any:
        with one_at_a_time:  # S3 looks whether an object is there and writes it in one step; moto does not
            return put(response)

    S3Response.put_object = put_object
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()
    S3Response.put_object = put


@pytest.fixture
def s3_url(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place in a new bucket."""
    import boto3

    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    bucket = f"bucket-{next(_NUMBERS)}"
    boto3.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    return f"s3://{bucket}/a/corpus"


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """An empty corpus in a folder."""
    return open_storage(str(tmp_path / "corpus"))


@pytest.fixture
def s3(s3_url: str) -> Storage:
    """An empty corpus in a bucket."""
    return open_storage(s3_url)


@pytest.fixture(params=["folder", "s3"])
def any_storage(request: pytest.FixtureRequest) -> Storage:
    """An empty corpus, in a folder and in a bucket."""
    place: Storage = request.getfixturevalue("storage" if request.param == "folder" else "s3")
    return place
