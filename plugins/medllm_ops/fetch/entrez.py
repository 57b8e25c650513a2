"""PubMed by query: ESearch and EFetch of NCBI's E-utilities, by slices of the day of entry (EDAT).

Specification: https://www.ncbi.nlm.nih.gov/books/NBK25499/ (parameters, history server, limits). A search gives out
9,998 records at most, so that a larger one is cut into slices: by days, and a day by ranges of PMIDs (``1:500[UID]``).
"""

from __future__ import annotations

import datetime
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import httpx
from pydantic import BeforeValidator, Field, SecretStr

from medllm_ops.fetch import entrez_answers as answers
from medllm_ops.fetch.base import FetchedFile, FetchError, FetchSettings, Known
from medllm_ops.fetch.entrez_window import LIMIT, Slice, Window, new_window
from medllm_ops.fetch.http import Client
from medllm_ops.fetch.http_answers import HttpError
from medllm_ops.fetch.pages import Pages
from medllm_ops.files import text_hash

log = logging.getLogger(__name__)

WATERMARK = "entrez"
"""The key of a watermark under which this fetcher keeps its own: the windows of all queries, by the query's hash."""

EARLIEST = datetime.date(1700, 1, 1)
_RATE, _RATE_WITH_KEY = 3, 10  # requests a second that NCBI allows
_RUN_AGAIN = "what came before is kept; run the refresh again later"

Day = Annotated[datetime.date, BeforeValidator(lambda day: day.replace("/", "-") if isinstance(day, str) else day)]
"""A date, as 2026-01-31 or in NCBI's way, 2026/01/31."""


class EntrezSettings(FetchSettings):
    """What is asked for, and how."""

    query: str = Field(default="", description="Only citations that PubMed finds by this query, such as hasabstract.")
    since: Day | None = Field(default=None, description="Only what entered PubMed on this day or later.")
    until: Day | None = Field(default=None, description="Only what entered PubMed on this day or before; none: today.")
    entrez_base_url: str = Field(
        default="https://eutils.ncbi.nlm.nih.gov/entrez/eutils/", description="The address of E-utilities."
    )
    api_key: SecretStr | None = Field(default=None, description="NCBI's key; the variable NCBI_API_KEY by default.")
    email: str = Field(default="", description="Where NCBI can write to before it blocks too many requests.")
    page_size: int = Field(default=500, ge=1, le=500, description="Citations in a page; 500 have some 5 MB.")
    requests_per_second: float | None = Field(
        default=None, gt=0, description="At most so many requests a second; NCBI's limit by default: 3, with a key 10."
    )


def today() -> datetime.date:
    """The day, in UTC."""
    return datetime.datetime.now(datetime.UTC).date()


def fetch(settings: EntrezSettings, known: Known, folder: Path, client: Client) -> Iterator[FetchedFile]:
    """Yield a raw file for each page of citations that the query finds and that did not come before.

    :raises FetchError: if E-utilities cannot be read, or refuses the query or the key.
    """
    return islice(_Entrez(settings, known, folder, client).files(), settings.max_files or None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A slice's records on the history server, and the next page of them, from 1."""

    slice: Slice
    count: int
    web_env: str
    query_key: str
    page: int = 1


class _Entrez:
    def __init__(self, settings: EntrezSettings, known: Known, folder: Path, client: Client) -> None:
        self._settings = settings
        self._kept_pages = Pages(folder)
        self._client = client
        self._url = settings.entrez_base_url.rstrip("/") + "/"
        self._key = settings.api_key.get_secret_value() if settings.api_key else os.environ.get("NCBI_API_KEY", "")
        if self._key:
            logging.getLogger("httpx").addFilter(_WITHOUT_KEY)
        seconds = 1 / (settings.requests_per_second or (_RATE_WITH_KEY if self._key else _RATE))
        client.pause = (seconds, seconds)
        self._until = settings.until or today()
        self._query_hash = text_hash(settings.query)[:16]
        self._watermark = known.watermark
        self._told: set[str] = set()

    def files(self) -> Iterator[FetchedFile]:
        kept = self._watermark.get(WATERMARK, {}).get(self._query_hash)
        window = Window.read(kept) if kept else None
        since = self._settings.since.isoformat() if self._settings.since else ""
        if window is None or since < window.since:
            window = new_window(since, self._settings.since or EARLIEST, self._until, today())
        while True:
            if window.done:
                following = self._following(window)
                if following is None:
                    return
                window = following
            is_last = window.until >= self._until
            for raw, after in self._pages(window):
                yield raw
                window = after
            if is_last or not window.done:
                return

    def _following(self, window: Window) -> Window | None:
        """The window after one that is done: what is newer, and its last days if they have grown."""
        if self._until < window.until:
            return None
        begin = window.until + datetime.timedelta(days=1)
        if (newest := window.newest) and self._search(newest).count != window.newest_count:
            begin = newest.begin
        return new_window(window.since, begin, self._until, today()) if begin <= self._until else None

    def _pages(self, window: Window) -> Iterator[tuple[FetchedFile, Window]]:
        """The pages of a window that did not come yet, each with the window as it is after it."""
        counts: dict[Slice, int] = {}
        slices = self._slices(window, counts)
        found = next(slices, None)
        while found:
            following, is_last, lost = None, False, 0
            while not is_last and (found.page - 1) * self._settings.page_size < found.count:
                try:
                    content = self._fetch_page(found)
                except answers.HistoryError as error:
                    if lost == found.page:
                        raise FetchError(f"{error}, twice: {_RUN_AGAIN}") from error
                    lost = found.page
                    log.warning("%s; searching again", error)
                    found = self._resumed(found.slice, found.count, found.page)
                    if found.count >= LIMIT:
                        raise FetchError(f"{found.slice} grew beyond {LIMIT} records: {_RUN_AGAIN}") from error
                    continue
                is_last = found.page * self._settings.page_size >= found.count
                following = next(slices, None) if is_last else None
                newest_count = counts.get(window.newest, window.newest_count) if window.newest else window.newest_count
                window = replace(
                    window,
                    slice=found.slice,
                    count=found.count,
                    page=0 if is_last else found.page + 1,
                    page_size=self._settings.page_size,
                    newest_count=newest_count,
                    done=is_last and following is None,
                )
                yield self._kept(found, content, window), window
                found = replace(found, page=found.page + 1)
            found = following if is_last else next(slices, None)

    def _slices(self, window: Window, counts: dict[Slice, int]) -> Iterator[_Found]:
        """The slices that are not read yet and hold something; ``counts`` notes what each one that was searched has."""
        after = window.first
        if window.slice:
            after = window.slice.after
            if window.page:
                page = window.page if window.page_size == self._settings.page_size else 1
                found = self._resumed(window.slice, window.count, page)
                if found.count < LIMIT:
                    yield found
                else:
                    yield from self._halves(window.slice, window.slice.first, counts)
        for part in window.parts:
            yield from self._whole_or_halves(part, after, counts)

    def _whole_or_halves(
        self, part: Slice, after: tuple[datetime.date, int], counts: dict[Slice, int]
    ) -> Iterator[_Found]:
        if part.last < after:
            return
        if part.first >= after:
            found = self._search(part)
            counts[part] = found.count
            if found.count < LIMIT:
                if found.count:
                    yield found
                return
        yield from self._halves(part, after, counts)

    def _halves(self, part: Slice, after: tuple[datetime.date, int], counts: dict[Slice, int]) -> Iterator[_Found]:
        halves = part.halves()
        if not halves:
            raise FetchError(f"{self._url} finds {LIMIT} records or more with one PMID: it ignores dates and PMIDs")
        for half in halves:
            yield from self._whole_or_halves(half, after, counts)

    def _resumed(self, part: Slice, count: int, page: int) -> _Found:
        """Search a slice again: go on at the page if it holds as many records as before, or else begin it anew."""
        found = self._search(part)
        if found.count == count:
            return replace(found, page=page)
        log.warning("%s has %d records now, %d before: it is read anew", part, found.count, count)
        return found

    def _search(self, part: Slice) -> _Found:
        params = self._search_params(part) | {"usehistory": "y", "retmode": "json", "retmax": 0}
        result = self._ask("esearch.fcgi", params, answers.read_search)
        for warning in result.warnings:
            if warning not in self._told:
                self._told.add(warning)
                log.warning("PubMed says of the query: %s", warning)
        log.info("PubMed finds %d records in %s", result.count, part)
        return _Found(slice=part, count=result.count, web_env=result.web_env, query_key=result.query_key)

    def _search_params(self, part: Slice) -> dict[str, Any]:
        return {
            "db": "pubmed",
            "term": part.term(self._settings.query),
            "datetype": "edat",
            "mindate": f"{part.begin:%Y/%m/%d}",
            "maxdate": f"{part.end:%Y/%m/%d}",
        }

    def _fetch_page(self, found: _Found) -> bytes:
        size = self._settings.page_size
        start = (found.page - 1) * size
        params = {"db": "pubmed", "query_key": found.query_key, "WebEnv": found.web_env, "retmode": "xml"}
        params |= {"retstart": str(start), "retmax": str(size)}
        asked = min(size, found.count - start)
        for _ in range(2):
            content, records = self._ask("efetch.fcgi", params, answers.read_page)
            if records == asked:
                return content
            log.warning("page %d of %s holds %d records instead of %d", found.page, found.slice, records, asked)
        return content

    def _ask(self, program: str, params: dict[str, Any], parse: answers.Parse[answers.Result]) -> answers.Result:
        sender = {"tool": "medllm-ops", "email": self._settings.email, "api_key": self._key}
        params = params | {name: value for name, value in sender.items() if value}
        try:
            return self._client.read(self._url + program, parse, params)
        except HttpError as error:
            reason = answers.error_in(error.body)
            try:
                if reason:
                    answers.refuse(error.url, reason)
            except ValueError:
                log.debug("%s said %s with a status that is final", error.url, reason)
            raise FetchError(f"{error}{reason and f' ({reason})'}; {_RUN_AGAIN}") from error

    def _kept(self, found: _Found, content: bytes, window: Window) -> FetchedFile:
        slice_hash = text_hash(f"{self._settings.query}\n{found.slice}")[:16]
        pages = -(-found.count // self._settings.page_size)
        log.info("page %d of %d of %s, %.1f MB", found.page, pages, found.slice, len(content) / 1e6)
        windows = {**self._watermark.get(WATERMARK, {}), self._query_hash: window.to_row(self._settings.query)}
        self._watermark = {**self._watermark, WATERMARK: windows}
        url = str(httpx.URL(f"{self._url}esearch.fcgi", params=self._search_params(found.slice)))
        return self._kept_pages.keep(f"entrez-{slice_hash}-{found.page:04}.xml", content, url, self._watermark)


class _WithoutKey(logging.Filter):
    """Takes NCBI's key out of the addresses that httpx logs."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = re.sub(r"(api_key=)[^&\s\"]+", r"\1(secret)", record.getMessage()), ()
        return True


_WITHOUT_KEY = _WithoutKey()
