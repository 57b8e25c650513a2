"""Objects of an S3 bucket below a prefix: new, changed and removed ones are noticed by their ETag.

Endpoint, region and credentials come from where boto3 finds them: ``AWS_ENDPOINT_URL``, profiles, roles.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from medllm_ops.fetch.base import FetchedFile, FetchError, Known
from medllm_ops.fetch.http import Client
from medllm_ops.fetch.location import Settings, chosen, clear_spool, is_data_path, removed, spool_path

__all__ = ["Settings", "fetch"]

log = logging.getLogger(__name__)

_TRIES = 3
_GONE = ("404", "NoSuchKey")
_CHANGED = ("412", "PreconditionFailed")  # boto3 asks for the ETag that it saw first


def fetch(settings: Settings, known: Known, folder: Path, client: Client) -> Iterator[FetchedFile]:
    """Yield each object that is new or changed, then news of those that were removed.

    Names are the objects' addresses: ``s3://bucket/prefix/rows.jsonl``. The prefix is a folder, or one object.

    :raises FetchError: if the bucket cannot be read, or holds no data there.
    """
    place = settings.location.rstrip("/")
    address = urlsplit(place)
    bucket, prefix = address.netloc, address.path.strip("/")
    with _told(place):
        s3 = _connect(settings)
        etags = {
            entry["Key"]: entry["ETag"]
            for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            for entry in page.get("Contents", [])
            if _is_below(entry["Key"], prefix)
        }
    names = {f"s3://{bucket}/{key}": key for key in chosen(list(etags), settings.patterns, place)}
    clear_spool(folder)
    due = {name: key for name, key in names.items() if known.files.get(name) != etags[key].strip('"')}
    for number, (name, key) in enumerate(due.items(), start=1):
        path = spool_path(folder, name)
        with _told(name):
            etag = _bring(s3, bucket, key, etags[key], path)
        if etag:
            left = len(due) - number
            yield FetchedFile(name=name, path=path, url=name, checksum=etag.strip('"'), whole=True, left=left)
    yield from removed(f"{place}/", names, known)


def _connect(settings: Settings) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=settings.timeout,
        read_timeout=settings.timeout,
        retries={"total_max_attempts": settings.attempts, "mode": "standard"},
    )
    return boto3.client("s3", config=config)


def _is_below(key: str, prefix: str) -> bool:
    """Whether an object lies in the folder, or is the one object, and is data."""
    if key == prefix:
        return True
    inside = key.removeprefix(f"{prefix}/" if prefix else "")
    return (not prefix or inside != key) and not key.endswith("/") and is_data_path(inside)


def _bring(s3: Any, bucket: str, key: str, etag: str, path: Path) -> str:
    """Download a whole object and return its ETag; an object that changed meanwhile is downloaded again.

    :return: empty if the object is gone.
    """
    from botocore.exceptions import ClientError

    for _ in range(_TRIES):
        try:
            s3.download_file(bucket, key, str(path))
            now = str(s3.head_object(Bucket=bucket, Key=key)["ETag"])
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in _GONE:
                path.unlink(missing_ok=True)
                log.warning("s3://%s/%s was removed before it was read", bucket, key)
                return ""
            if code not in _CHANGED:
                raise
            continue
        if now == etag:
            return now
        log.warning("s3://%s/%s changed while it was read; reading it again", bucket, key)
        etag = now
    raise FetchError(f"s3://{bucket}/{key} changes faster than it can be read; run the refresh again later")


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Tell of every failure of S3 in one sentence."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, Boto3Error, ClientError, ValueError) as error:
        said = " ".join(str(error).split())
        raise FetchError(
            f"{what} cannot be read: {said}; check AWS_ENDPOINT_URL, the credentials and the address, and run the "
            "refresh again: what came before is kept"
        ) from error
