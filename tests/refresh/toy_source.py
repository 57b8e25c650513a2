"""A source for tests: text files of lines ``id text``, ``-id`` for a deletion; its publisher is a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medllm_ops.errors import UnreadableFileError
from medllm_ops.fetch.base import FetchedFile, FetchError, FetchSettings, Known
from medllm_ops.fetch.http import Client
from medllm_ops.records import Deletion, Document, Reject
from medllm_ops.sources.base import Parsed, Source


class Settings(FetchSettings):
    folder: Path
    whole: bool = False
    copies: bool = True
    fail_after: int = 0


def fetch(settings: Any, known: Known, folder: Path, client: Client) -> Iterator[FetchedFile]:
    paths = sorted(settings.folder.glob("*.txt"))
    for number, path in enumerate(paths):
        checksum = str(path.stat().st_mtime_ns)
        if known.files.get(path.name) == checksum:
            continue
        if settings.fail_after and number >= settings.fail_after:
            raise FetchError(f"{path.name}: the publisher does not answer")
        here = path
        if settings.copies:
            here = folder / path.name
            here.write_bytes(path.read_bytes())
        yield FetchedFile(name=path.name, path=here, checksum=checksum, whole=settings.whole)
    for name in sorted(set(known.files) - {path.name for path in paths}):
        yield FetchedFile(name=name, path=None)


def parse(path: Path) -> Iterator[Parsed]:
    text = path.read_text(encoding="utf-8")
    if text.startswith("unreadable"):
        raise UnreadableFileError(path, "is no toy")
    for number, line in enumerate(text.splitlines(), start=1):
        name, _, content = line.partition(" ")
        if name.startswith("-"):
            yield Deletion(id=f"toy:{name[1:]}", file=str(path), position=f"line {number}")
        elif not content:
            yield Reject(file=str(path), position=f"line {number}", reason="no text", id=f"toy:{name}")
        else:
            yield Document(id=f"toy:{name}", source="toy", language="en", title=name, text=content)


SOURCE = Source("toy", "pretrain", "toy", ("*.txt",), parse, True, fetch=fetch, settings=Settings)
