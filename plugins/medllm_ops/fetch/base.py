"""What a fetcher is: it lists what its publisher has, brings the new files here, and knows nothing of records."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from medllm_ops.errors import MedllmError
from medllm_ops.fetch.http import Client


class FetchError(MedllmError):
    """A publisher could not be read: the address, what happened, and what can be done."""


class FetchSettings(BaseModel):
    """What every fetcher can be told; a source's own settings extend it. Unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_files: int = Field(default=0, ge=0, description="Bring at most so many new raw files this time; 0: all.")
    attempts: int = Field(default=6, ge=1, description="Tries of a request before it is given up.")
    first_wait: float = Field(default=0.5, ge=0, description="Seconds before the second try; it doubles each time.")
    longest_wait: float = Field(default=120, ge=0, description="The most seconds to wait, Retry-After included.")
    timeout: float = Field(default=60, gt=0, description="Seconds without a byte until a try is given up.")


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedFile:
    """A raw file that lies here now, or the news that its publisher took it away.

    ``name`` is stable within its source and says what the file is: ``updatefiles/pubmed26n1335.xml.gz``.
    ``path`` is ``None`` for a file that its publisher no longer has.
    ``checksum`` is the publisher's own (an md5, an ETag), or else the SHA-256 of the content; another one under the
    same name is news.
    ``whole`` says that the file holds all records of its name: those it no longer holds are gone.
    ``generation`` names a complete publication (``pubmed26``): a new one replaces the old one in whole, and the
    records missing from it are gone. ``generation_complete`` is true on its last file.
    ``watermark`` is what the fetcher wants to find in :attr:`Known.watermark` once this file is in the corpus.
    ``left`` is how many raw files will come after it, as far as the fetcher knows; it serves the progress alone.
    """

    name: str
    path: Path | None
    url: str = ""
    checksum: str = ""
    whole: bool = False
    generation: str = ""
    generation_complete: bool = False
    watermark: Mapping[str, Any] | None = None
    left: int | None = None


def time_left(seconds: float, done: int, left: int) -> datetime.timedelta:
    """How long the rest takes, if it goes on as until now."""
    return datetime.timedelta(seconds=round(seconds / done * left))


@dataclass(frozen=True, slots=True)
class Known:
    """What the corpus has of a source: the checksum of each raw file by name, the last watermark, the generation."""

    files: Mapping[str, str] = field(default_factory=dict)
    watermark: Mapping[str, Any] = field(default_factory=dict)
    generation: str = ""


class Fetcher(Protocol):
    """Yields new raw files, one by one, in the order in which they must be applied.

    A few files are asked for ahead of the one that is applied; a refresh that is killed starts again from what is in
    the corpus, so nothing in ``known`` is fetched again. Whatever it leaves in ``folder`` may be found again by the
    next refresh (a half download) or be missing.

    :raises FetchError: in one clear sentence, when the publisher cannot be read.
    """

    def __call__(self, settings: Any, known: Known, folder: Path, client: Client) -> Iterator[FetchedFile]:
        """Fetch what is new.

        :param settings: an instance of the source's settings, a :class:`FetchSettings`.
        :param folder: a folder of the fetcher's own, kept between refreshes.
        """
        ...
