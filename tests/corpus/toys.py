"""Small records, and the shortest way to bring them into a corpus and to read it."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson

from medllm_ops.corpus.items import write_items
from medllm_ops.corpus.maintenance import verify
from medllm_ops.corpus.reader import Snapshot
from medllm_ops.corpus.storage import Storage
from medllm_ops.corpus.writer import Applied, Writer, open_writer
from medllm_ops.fetch.base import FetchedFile
from medllm_ops.records import Deletion, Document, Record, Reject

Item = Record | Deletion | Reject
_NUMBERS = itertools.count()
DATE = "2026-01-02T03:04:05Z"


def document(number: int | str, text: str = "text", version: int = 1, **more: Any) -> Document:
    said = {"title": f"title {number}", "language": "en", "source": "toy"} | more
    return Document(id=f"toy:{number}", text=text, version=version, **said)


def deletion(number: int | str) -> Deletion:
    return Deletion(id=f"toy:{number}", file="a file", position="somewhere")


def reject(number: int | str, withdraws: int | None = None, reason: str = "no abstract") -> Reject:
    return Reject(file="a file", position="somewhere", reason=reason, id=f"toy:{number}", withdraws=withdraws)


def apply(writer: Writer, name: str, items: Iterable[Item] | None, **more: Any) -> Applied:
    """Apply a raw file of these items; ``None``: one that its publisher took away."""
    more = {"checksum": f"checksum {next(_NUMBERS)}"} | more
    if items is None:
        return writer.apply(FetchedFile(name=name, path=None, **more), None, date=DATE)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "items")
        write_items(items, path)
        return writer.apply(FetchedFile(name=name, path=path, **more), path, "a digest", DATE)


def bring(storage: Storage, name: str, items: Iterable[Item] | None, **more: Any) -> Applied:
    """:func:`apply`, by a writer of its own."""
    with open_writer(storage, "toy") as writer:
        return apply(writer, name, items, **more)


def exported(storage: Storage, version: int | str | None = None, **options: Any) -> bytes:
    """The bytes of an export."""
    path = Path(tempfile.gettempdir(), f"export.{os.getpid()}.{next(_NUMBERS)}.jsonl")
    try:
        Snapshot(storage, version).export(path, **options)
        return path.read_bytes()
    finally:
        path.unlink(missing_ok=True)


def texts(storage: Storage, version: int | str | None = None, **options: Any) -> dict[str, str]:
    """The text of each exported document, by the number in its id."""
    rows = map(orjson.loads, exported(storage, version, **options).splitlines())
    return {row["id"].removeprefix("toy:"): row["text"] for row in rows}


def events(storage: Storage, number: int | str) -> list[str]:
    """What happened to a document."""
    return [row["event"] for row in Snapshot(storage).history(f"toy:{number}")]


def assert_sound(storage: Storage) -> None:
    assert list(verify(Snapshot(storage))) == []
