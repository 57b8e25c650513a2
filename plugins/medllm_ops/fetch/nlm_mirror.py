"""PubMed's files as NLM hands them out: the yearly baseline, then the daily update files, each with its md5.

Layout: https://pubmed.ncbi.nlm.nih.gov/download/. Names, numbers and the year's prefix are read from the listings of
``baseline/`` and ``updatefiles/``, never guessed.
"""

from __future__ import annotations

import datetime
import logging
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
from pydantic import Field

from medllm_ops.fetch.base import FetchedFile, FetchError, FetchSettings, Known, time_left
from medllm_ops.fetch.http import Client
from medllm_ops.fetch.http_answers import ChecksumError, HttpError
from medllm_ops.fetch.listing import read_listing
from medllm_ops.files import md5_of

log = logging.getLogger(__name__)

BASELINE, UPDATES = "baseline", "updatefiles"
WATERMARK = "mirror"
"""The key of a watermark under which this fetcher keeps its own."""

_FILE = re.compile(r"([a-z]+(\d\d))n(\d+)\.xml\.gz")
_SUM = r"[0-9a-fA-F]{32}"
# As NLM writes it, and as md5sum does: some mirrors make the sums themselves.
_SIDECAR = re.compile(rf"MD5\s*\(\s*([^()]+?)\s*\)\s*=\s*({_SUM})|({_SUM})(?:\s+\*?(\S+))?")
_GONE = (404, 410)
_MANY_FILES = 20
_FEWEST = 0.9  # of the files of the baseline before; PubMed only grows
_RUN_AGAIN = "what came before is kept; run the refresh again later"


class MirrorSettings(FetchSettings):
    """Where the files lie, and which of them are wanted."""

    base_url: str = Field(
        default="https://ftp.ncbi.nlm.nih.gov/pubmed/", description="The folder that has baseline/ and updatefiles/."
    )
    since: datetime.date | None = Field(
        default=None, description="Only update files listed on this day or later, and no baseline; none: everything."
    )


@dataclass(frozen=True, slots=True, order=True)
class _Listed:
    """A file of a listing; the order is that in which files must be applied."""

    year: int
    number: int
    folder: str
    file: str
    prefix: str
    date: datetime.date | None

    @property
    def name(self) -> str:
        return f"{self.folder}/{self.file}"

    @property
    def place(self) -> tuple[int, int]:
        return self.year, self.number


@dataclass(frozen=True, slots=True)
class _Mark:
    """What the raw files' names do not tell; it is kept in the watermark.

    ``complete`` is the generation whose last baseline file was applied as such. ``again`` is the place of the first
    update file that must be applied once more, because one that belongs before it came late.
    """

    complete: str = ""
    again: tuple[int, int] | None = None

    @classmethod
    def read(cls, watermark: Mapping[str, Any]) -> _Mark | None:
        kept = watermark.get(WATERMARK)
        return cls(kept["complete"], tuple(kept["again"]) if kept["again"] else None) if kept else None


class _GoneError(Exception):
    """A file that was listed is not there."""

    def __init__(self, listed: _Listed, error: HttpError) -> None:
        super().__init__(str(error))
        self.listed = listed


def fetch(settings: MirrorSettings, known: Known, folder: Path, client: Client) -> Iterator[FetchedFile]:
    """Yield what is new: the whole baseline first, then update files by their number.

    An update file that turns up late, below files that were applied, is yielded with all of these once more: what
    they say of a record is newer.

    :raises FetchError: if a listing or a file cannot be read, is not what it should be, or is older than the corpus.
    """
    return islice(_Mirror(settings, known, folder, client).files(), settings.max_files or None)


class _Mirror:
    def __init__(self, settings: MirrorSettings, known: Known, folder: Path, client: Client) -> None:
        self._settings = settings
        self._url = settings.base_url.rstrip("/") + "/"
        self._folder = folder
        self._client = client
        self._done = set(known.files)
        self._generation = known.generation
        self._watermark = known.watermark
        self._mark = _Mark.read(known.watermark)
        self._given: Counter[str] = Counter()

    def files(self) -> Iterator[FetchedFile]:
        missed: set[str] = set()
        while True:
            baseline, updates = self._listed()
            steps = self._steps(baseline, updates)
            if not missed:  # later, files that wait to be applied lie there, too
                self._tidy(steps)
            began = time.monotonic()
            try:
                for number, listed in enumerate(steps, start=1):
                    asked = time.monotonic()
                    path, md5 = self._bring(listed)
                    total = min(len(steps), self._settings.max_files or len(steps))
                    _tell(path, time.monotonic() - asked, number, total, time.monotonic() - began)
                    self._given[listed.file] += 1
                    yield self._fetched(listed, path, md5, baseline, steps[number:])
                return
            except _GoneError as gone:
                if gone.listed.name in missed:
                    raise FetchError(
                        f"{gone}, although it is listed, also after a second look; the publisher may be replacing its "
                        f"files: {_RUN_AGAIN}"
                    ) from gone
                missed.add(gone.listed.name)
                log.warning("%s, although it is listed; reading the listings once more", gone)

    def _listed(self) -> tuple[list[_Listed], list[_Listed]]:
        """The baseline, and the update files that follow it, in order; with ``since`` no baseline."""
        if since := self._settings.since:
            updates = self._listing(UPDATES)
            if undated := [listed.file for listed in updates if listed.date is None]:
                raise FetchError(f"{self._url}{UPDATES}/ shows no date for {undated[0]}: refresh without since")
            oldest = _year(self._generation)
            return [], [listed for listed in updates if listed.date and listed.date >= since and listed.year >= oldest]
        baseline = self._listing(BASELINE)
        prefixes = sorted({listed.prefix for listed in baseline}, key=_year)
        if len(prefixes) > 1:
            raise FetchError(
                f"{self._url}{BASELINE}/ lists files of {' and '.join(prefixes)}: its publisher is replacing them; "
                f"{_RUN_AGAIN}"
            )
        (prefix,) = prefixes
        self._check_generation(prefix, baseline)
        listed_updates = self._listing(UPDATES, may_be_empty=not self._knows(f"{UPDATES}/{prefix}n"))
        updates = [listed for listed in listed_updates if listed.prefix == prefix]
        if newer := [listed.file for listed in listed_updates if listed.year > _year(prefix)]:
            log.warning("%s and others wait for the baseline of their year; %s is still listed", newer[0], prefix)
        return baseline, updates

    def _check_generation(self, prefix: str, baseline: list[_Listed]) -> None:
        if not self._generation or prefix == self._generation:
            return
        if _year(prefix) <= _year(self._generation):
            raise FetchError(
                f"{self._url}{BASELINE}/ lists {prefix}, which is older than {self._generation} in the corpus; "
                f"check base_url"
            )
        # What is missing from a new baseline is removed from the corpus: it must be there in whole.
        numbers = [listed.number for listed in baseline]
        before = sum(name.startswith(f"{BASELINE}/{self._generation}n") for name in self._done)
        is_short = before >= _MANY_FILES and len(baseline) < _FEWEST * before
        if is_short or numbers != list(range(numbers[0], numbers[0] + len(numbers))):
            reason = f"it has {len(baseline)} files after {before}" if is_short else "there are gaps in its numbers"
            raise FetchError(
                f"the new baseline {prefix} at {self._url}{BASELINE}/ is not complete ({reason}): {_RUN_AGAIN}"
            )
        log.info("there is a new baseline, %s: it replaces %s", prefix, self._generation)

    def _listing(self, folder: str, may_be_empty: bool = False) -> list[_Listed]:
        url = f"{self._url}{folder}/"

        def parse(response: httpx.Response) -> list[_Listed]:
            found = [(entry, _FILE.fullmatch(entry.name)) for entry in read_listing(response.text, str(response.url))]
            return sorted(
                _Listed(int(match[2]), int(match[3]), folder, entry.name, match[1], entry.date)
                for entry, match in found
                if match
            )

        try:
            listed = self._client.read(url, parse)
        except HttpError as error:
            raise FetchError(f"{error}; check base_url, or run the refresh again later") from error
        if not listed and not may_be_empty:
            raise FetchError(f"{url} lists no PubMed file (such as pubmed26n0001.xml.gz): check base_url")
        return listed

    def _knows(self, start: str) -> bool:
        return any(name.startswith(start) for name in self._done)

    def _steps(self, baseline: list[_Listed], updates: list[_Listed]) -> list[_Listed]:
        """What is to be brought now, in order."""
        steps = [listed for listed in baseline if listed.name not in self._done]
        if steps:
            return steps + updates
        if baseline and self._mark and self._mark.complete != baseline[-1].prefix:
            steps = baseline[-1:]  # the listing named a later one when this one came
        first = min((listed.place for listed in updates if self._is_wanted(listed)), default=None)
        return steps + [listed for listed in updates if first and listed.place >= first]

    def _is_wanted(self, listed: _Listed) -> bool:
        again = self._mark.again if self._mark else None
        is_again = again is not None and listed.year == again[0] and listed.place >= again
        return is_again or listed.name not in self._done

    def _fetched(
        self, listed: _Listed, path: Path, md5: str, baseline: list[_Listed], rest: list[_Listed]
    ) -> FetchedFile:
        is_last = bool(baseline) and listed == baseline[-1]
        # Without a baseline of its own, an update file changes the generation of before.
        generation = listed.prefix if baseline or listed.prefix == self._generation else ""
        again = (later.place for later in rest if later.folder == UPDATES and later.name in self._done)
        complete = listed.prefix if is_last else self._mark.complete if self._mark else ""
        self._mark = _Mark(complete, min(again, default=None))
        self._done.add(listed.name)
        self._generation = generation or self._generation
        return FetchedFile(
            name=listed.name,
            path=path,
            url=self._url + listed.name,
            checksum=md5,
            generation=generation,
            generation_complete=is_last,
            watermark={**self._watermark, WATERMARK: {"complete": complete, "again": self._mark.again}},
            left=len(rest),
        )

    def _bring(self, listed: _Listed) -> tuple[Path, str]:
        # One that is given once more lies apart: the first may still wait to be applied.
        times = self._given[listed.file]
        path = (self._folder / f"again{times}" if times else self._folder) / listed.file
        try:
            md5 = self._sidecar(listed)
            try:
                return self._file(listed, path, md5), md5
            except ChecksumError:
                renewed = self._sidecar(listed)
                if renewed == md5:
                    raise
                log.warning("%s was replaced while it was fetched; fetching the new one", listed.name)
                return self._file(listed, path, renewed), renewed
        except HttpError as error:
            if error.status in _GONE:
                raise _GoneError(listed, error) from error
            raise FetchError(f"{error}; {_RUN_AGAIN}") from error

    def _file(self, listed: _Listed, path: Path, md5: str) -> Path:
        if path.exists() and md5_of(path) == md5:
            log.info("%s is here from an earlier refresh", listed.name)
            return path
        return self._client.download(self._url + listed.name, path, md5)

    def _sidecar(self, listed: _Listed) -> str:
        def parse(response: httpx.Response) -> str:
            stated = _SIDECAR.fullmatch(response.text.strip())
            if not stated or (stated[1] or stated[4] or listed.file).rpartition("/")[2] != listed.file:
                raise ValueError(f"it is not MD5({listed.file})= and 32 hexadecimal digits")
            return (stated[2] or stated[3]).lower()

        return self._client.read(f"{self._url}{listed.name}.md5", parse)

    def _tidy(self, steps: list[_Listed]) -> None:
        """Remove what earlier refreshes left and nobody needs any more."""
        needed = {listed.file for listed in steps}
        for path in self._folder.rglob("*.xml.gz*"):
            file = path.name.partition(".xml.gz")[0] + ".xml.gz"
            if _FILE.fullmatch(file) and file not in needed:
                path.unlink()


def _tell(path: Path, seconds: float, number: int, total: int, since_the_first: float) -> None:
    megabytes = path.stat().st_size / 1e6
    speed = megabytes / max(seconds, 1e-3)
    left = time_left(since_the_first, number, total - number)
    log.info("%s: file %d of %d, %.1f MB at %.1f MB/s; about %s left", path.name, number, total, megabytes, speed, left)


def _year(prefix: str) -> int:
    return int(prefix[-2:]) if prefix else 0
