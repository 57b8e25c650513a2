"""Where a corpus lies: a folder, or a bucket of an S3 server. Small objects by key, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from medllm_ops.errors import MedllmError
from medllm_ops.files import remove_parts, write_whole

_MARK = "medllm-ops-creation"


class StorageError(MedllmError):
    """The place of a corpus cannot be read or written."""


class Storage(Protocol):
    """Objects by key (``manifests/000000000001.json``); a key names a whole object or none."""

    url: str

    def read(self, key: str) -> bytes:
        """The object.

        :raises KeyError: if there is none.
        """
        ...

    def write(self, key: str, data: bytes) -> None:
        """Write the object, over an older one."""
        ...

    def create(self, key: str, data: bytes) -> bool:
        """Write the object unless one is there: of several who try at once, exactly one gets true."""
        ...

    def keys(self, prefix: str) -> list[str]:
        """All keys that begin so, sorted."""
        ...

    def upload(self, key: str, path: Path) -> None:
        """Write a file of any size."""
        ...

    def download(self, key: str, path: Path) -> None:
        """Bring an object of any size to a file, which appears whole or not at all.

        :raises KeyError: if there is none.
        """
        ...

    def delete(self, key: str) -> None:
        """Delete the object if it is there."""
        ...

    def table(self, name: str) -> tuple[str, dict[str, str]]:
        """The address of a table and the options that its engine needs to reach it."""
        ...


def open_storage(url: str) -> Storage:
    """The storage at a folder's path or at ``s3://bucket/prefix``.

    S3's endpoint, region and credentials come from where boto3 finds them (``AWS_ENDPOINT_URL``, profiles, roles).

    :raises StorageError: if the address is of another kind.
    """
    scheme = urlsplit(url).scheme
    if scheme == "s3":
        return S3(url)
    if scheme and "://" in url:
        raise StorageError(f"{url}: a corpus lies in a folder or at s3://bucket/prefix")
    return Folder(Path(url))


class Folder:
    """Objects as files below a folder."""

    def __init__(self, path: Path) -> None:
        self._path = path.expanduser().absolute()
        self.url = str(self._path)

    def read(self, key: str) -> bytes:
        """See :class:`Storage`."""
        try:
            return (self._path / key).read_bytes()
        except FileNotFoundError as error:
            raise KeyError(key) from error

    def write(self, key: str, data: bytes) -> None:
        """See :class:`Storage`."""
        with self._draft(key, data) as (draft, path):
            draft.replace(path)

    def create(self, key: str, data: bytes) -> bool:
        """See :class:`Storage`."""
        with self._draft(key, data) as (draft, path):
            try:
                os.link(draft, path)  # unlike a rename, a link never takes the place of another file
            except FileExistsError:
                return False
        return True

    @contextlib.contextmanager
    def _draft(self, key: str, data: bytes) -> Iterator[tuple[Path, Path]]:
        """The data in a file beside the one of the key, under a name that no other thread or process has."""
        path = self._path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
        try:
            with draft.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield draft, path
        finally:
            draft.unlink(missing_ok=True)

    def keys(self, prefix: str) -> list[str]:
        """See :class:`Storage`."""

        def refuse(error: OSError) -> None:  # what cannot be read must not look empty
            if not isinstance(error, FileNotFoundError):
                raise StorageError(f"{self.url}: cannot list {prefix}: {error}") from error

        found = (
            Path(directory, name).relative_to(self._path).as_posix()
            for directory, _, names in os.walk(self._path / prefix.rpartition("/")[0], onerror=refuse)
            for name in names
            if not name.startswith(".")
        )
        return sorted(key for key in found if key.startswith(prefix))

    def upload(self, key: str, path: Path) -> None:
        """See :class:`Storage`."""
        remove_parts(self._path / key)  # a killed upload's
        with write_whole(self._path / key) as file, path.open("rb") as content:
            shutil.copyfileobj(content, file)

    def download(self, key: str, path: Path) -> None:
        """See :class:`Storage`."""
        try:
            with (self._path / key).open("rb") as content, write_whole(path) as file:
                shutil.copyfileobj(content, file)
        except FileNotFoundError as error:
            raise KeyError(key) from error

    def delete(self, key: str) -> None:
        """See :class:`Storage`."""
        (self._path / key).unlink(missing_ok=True)

    def table(self, name: str) -> tuple[str, dict[str, str]]:
        """See :class:`Storage`."""
        return str(self._path / name), {}


class S3:
    """Objects in a bucket."""

    def __init__(self, url: str) -> None:
        import boto3

        parts = urlsplit(url)
        if not parts.netloc:
            raise StorageError(f"{url}: name a bucket: s3://bucket/prefix")
        self.url = url.rstrip("/")
        self._bucket = parts.netloc
        self._prefix = parts.path.strip("/")
        self._session = boto3.Session()
        self._client: Any = self._session.client("s3")

    def _key(self, key: str) -> str:
        return f"{self._prefix}/{key}" if self._prefix else key

    def read(self, key: str) -> bytes:
        """See :class:`Storage`."""
        with self._said("read", key):
            content: bytes = self._client.get_object(Bucket=self._bucket, Key=self._key(key))["Body"].read()
        return content

    def write(self, key: str, data: bytes) -> None:
        """See :class:`Storage`."""
        with self._said("write", key):
            self._client.put_object(Bucket=self._bucket, Key=self._key(key), Body=data)

    def create(self, key: str, data: bytes) -> bool:
        """See :class:`Storage`."""
        from botocore.exceptions import ClientError

        mark = uuid.uuid4().hex
        try:
            # A conditional write: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
            with self._said("write", key, passing=("PreconditionFailed", "ConditionalRequestConflict")):
                self._client.put_object(
                    Bucket=self._bucket, Key=self._key(key), Body=data, IfNoneMatch="*", Metadata={_MARK: mark}
                )
        except ClientError:
            return self._has_mark(key, mark)
        return True

    def _has_mark(self, key: str, mark: str) -> bool:
        """Whether the object is ours: boto3 repeats a request whose answer was lost, and is told it is there."""
        try:
            with self._said("read", key):
                there = self._client.head_object(Bucket=self._bucket, Key=self._key(key))
        except KeyError:
            return False
        return bool(there["Metadata"].get(_MARK) == mark)

    def keys(self, prefix: str) -> list[str]:
        """See :class:`Storage`."""
        skip = len(self._prefix) + 1 if self._prefix else 0
        with self._said("list", prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._key(prefix)
            )
            return sorted(item["Key"][skip:] for page in pages for item in page.get("Contents", ()))

    def upload(self, key: str, path: Path) -> None:
        """See :class:`Storage`."""
        with self._said("write", key):
            self._client.upload_file(str(path), self._bucket, self._key(key))

    def download(self, key: str, path: Path) -> None:
        """See :class:`Storage`."""
        with self._said("read", key), write_whole(path) as file:
            self._client.download_fileobj(self._bucket, self._key(key), file)

    def delete(self, key: str) -> None:
        """See :class:`Storage`."""
        with self._said("delete", key):
            self._client.delete_object(Bucket=self._bucket, Key=self._key(key))

    def table(self, name: str) -> tuple[str, dict[str, str]]:
        """See :class:`Storage`."""
        options = {"aws_region": self._session.region_name or "us-east-1"}
        if credentials := self._session.get_credentials():
            frozen = credentials.get_frozen_credentials()
            # Those with a token run out: the engine finds them itself, where boto3 did, and renews them.
            if not frozen.token:
                options |= {"aws_access_key_id": frozen.access_key, "aws_secret_access_key": frozen.secret_key}
        endpoint = self._client.meta.endpoint_url
        if "amazonaws.com" not in endpoint:
            options |= {"aws_endpoint": endpoint, "allow_http": str(endpoint.startswith("http:")).lower()}
        return f"s3://{self._bucket}/{self._key(name)}", options

    @contextlib.contextmanager
    def _said(self, verb: str, key: str, passing: tuple[str, ...] = ()) -> Iterator[None]:
        """Turn boto3's errors into a sentence; a missing object into a KeyError."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in passing:
                raise
            if code in ("NoSuchKey", "404"):
                raise KeyError(key) from error
            raise StorageError(f"{self.url}: cannot {verb} {key}: {error}") from error
        except (BotoCoreError, Boto3Error) as error:
            raise StorageError(f"{self.url}: cannot {verb} {key}: {error}") from error
