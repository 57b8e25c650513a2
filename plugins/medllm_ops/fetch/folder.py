"""A folder of files, or one file: new, changed and removed ones are noticed by size, time and SHA-256."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import orjson

from medllm_ops.fetch.base import FetchedFile, FetchError, Known
from medllm_ops.fetch.http import Client
from medllm_ops.fetch.location import Settings, chosen, clear_spool, data_files, removed, spool_path
from medllm_ops.files import read_json, sha256_of, write_json, write_whole

__all__ = ["Settings", "fetch"]

log = logging.getLogger(__name__)

_BLOCK_BYTES = 1 << 20
# A file that was written to a moment ago may change again without a new time: clocks of file systems are coarse.
_SETTLED_SECONDS = 2


class _Seen:
    """The SHA-256 of files by size and time, kept between refreshes: what has not changed is not read again."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._old: dict[str, list[int | str]] = {}
        self._now: dict[str, list[int | str]] = {}
        if file.is_file():
            try:
                self._old = read_json(file)
            except orjson.JSONDecodeError:
                log.warning("%s is damaged; all files are read again", file)

    def checksum(self, path: Path) -> str:
        """The file's SHA-256, of now or of when it had this size and time."""
        status = path.stat()
        stamp = [status.st_size, status.st_mtime_ns]
        entry = self._old.get(str(path))
        digest = str(entry[2]) if entry and entry[:2] == stamp else sha256_of(path)
        if time.time() - status.st_mtime > _SETTLED_SECONDS:
            self._now[str(path)] = [*stamp, digest]
        return digest

    def keep(self) -> None:
        """Write down what was seen."""
        write_json(self._file, self._now)


def fetch(settings: Settings, known: Known, folder: Path, client: Client) -> Iterator[FetchedFile]:
    """Yield a copy of each file that is new or changed, then news of those that were removed.

    Names are relative to the folder, and begin with its own: ``handbooks/wards/hygiene.docx``. A file that cannot be
    read costs the others nothing: it is told of at the end, and what the corpus has of it stays.

    :raises FetchError: if there is no such folder, it holds no data, or files could not be read.
    """
    place = Path(settings.location).expanduser().resolve()
    if not place.exists():
        raise FetchError(f"{place}: there is no such folder or file; nothing was changed")
    root = place if place.is_dir() else place.parent
    prefix = f"{place.name}/" if place.is_dir() else ""
    below = [path.relative_to(root).as_posix() for path in (data_files(place) if place.is_dir() else [place])]
    names = {f"{prefix}{path}": root / path for path in chosen(below, settings.patterns, str(place))}
    clear_spool(folder)
    seen = _Seen(folder / "seen.json")
    unread = []
    try:
        for name, path in names.items():
            try:
                if known.files.get(name) == seen.checksum(path):
                    continue
                copy, checksum = _copy(path, spool_path(folder, name))
            except OSError as error:
                unread.append(f"{path}: {error.strerror or error}")
                continue
            yield FetchedFile(name=name, path=copy, url=path.as_uri(), checksum=checksum, whole=True)
        if prefix:
            yield from removed(prefix, names, known)
    finally:
        seen.keep()
    if unread:
        raise FetchError(f"{len(unread)} files could not be read: {'; '.join(unread[:5])}; the others are done")


def _copy(path: Path, copy: Path) -> tuple[Path, str]:
    """Copy, so that what is hashed, kept and parsed is one state, whoever writes to the file meanwhile."""
    digest = hashlib.sha256()
    with path.open("rb") as file, write_whole(copy) as out:
        for block in _blocks(file):
            digest.update(block)
            out.write(block)
    return copy, digest.hexdigest()


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    while block := file.read(_BLOCK_BYTES):
        yield block
