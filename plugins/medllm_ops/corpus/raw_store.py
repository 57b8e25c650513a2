"""The raw files as their publishers made them, by the SHA-256 of their content, and the order they were applied in.

A corpus can be made anew from it: the log says what was applied, when, and as what.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from medllm_ops.corpus.manifest import CorpusError
from medllm_ops.corpus.storage import Storage
from medllm_ops.fetch.base import FetchedFile
from medllm_ops.files import sha256_of


class RawEntry(BaseModel):
    """One line of the log: a :class:`~medllm_ops.fetch.base.FetchedFile` and what became of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: int
    name: str
    url: str
    checksum: str
    sha256: str
    whole: bool
    generation: str
    generation_complete: bool
    watermark: Mapping[str, Any] | None
    date: str
    sample: Mapping[str, int]


class RawStore:
    """The raw files of one source."""

    def __init__(self, storage: Storage, source: str) -> None:
        self._storage = storage
        self._source = source

    def keep(self, raw: FetchedFile, number: int, date: str, sample: Mapping[str, int]) -> str:
        """Keep a file that is about to be applied as the ``number``-th; one that never was is written over.

        :return: its SHA-256; empty for a file that was removed.
        """
        digest = ""
        if raw.path is not None:
            digest = sha256_of(raw.path)
            if not self._storage.keys(_blob(digest)):
                self._storage.upload(_blob(digest), raw.path)
        entry = RawEntry(
            number=number,
            name=raw.name,
            url=raw.url,
            checksum=raw.checksum,
            sha256=digest,
            whole=raw.whole,
            generation=raw.generation,
            generation_complete=raw.generation_complete,
            watermark=raw.watermark,
            date=date,
            sample=sample,
        )
        self._storage.write(self._key(number), entry.model_dump_json().encode())
        return digest

    def entries(self, applied: int) -> Iterator[RawEntry]:
        """The log of the first ``applied`` files, in order.

        :raises CorpusError: if one of them is missing (raw files were not kept all the time) or damaged.
        """
        return map(self.entry, range(1, applied + 1))

    def entry(self, number: int) -> RawEntry:
        """The log's line of the ``number``-th file.

        :raises CorpusError: as :meth:`entries`.
        """
        try:
            content = self._storage.read(self._key(number))
        except KeyError as error:
            raise CorpusError(f"raw file {number} of {self._source} was not kept: nothing can be rebuilt") from error
        try:
            return RawEntry.model_validate_json(content)
        except ValidationError as error:
            raise CorpusError(f"{self._storage.url}/{self._key(number)} is damaged: {error}") from error

    def bring(self, entry: RawEntry, folder: Path) -> FetchedFile:
        """The file of an entry, in ``folder``, under the name that its publisher gave it.

        :raises CorpusError: if it is missing or damaged.
        """
        path = folder / PurePosixPath(entry.name).name if entry.sha256 else None
        if path is not None:
            try:
                self._storage.download(_blob(entry.sha256), path)
            except KeyError as error:
                raise CorpusError(f"raw file {entry.name} ({entry.sha256}) is missing from the raw store") from error
            if sha256_of(path) != entry.sha256:
                raise CorpusError(f"raw file {entry.name} is damaged: its SHA-256 is no longer {entry.sha256}")
        return FetchedFile(
            name=entry.name,
            path=path,
            url=entry.url,
            checksum=entry.checksum,
            whole=entry.whole,
            generation=entry.generation,
            generation_complete=entry.generation_complete,
            watermark=entry.watermark,
        )

    def _key(self, number: int) -> str:
        return f"raw/log/{self._source}/{number:012}.json"


def _blob(digest: str) -> str:
    return f"raw/blobs/{digest[:2]}/{digest}"
