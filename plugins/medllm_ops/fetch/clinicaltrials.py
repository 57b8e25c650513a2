"""ClinicalTrials.gov API v2: pages of the studies updated since a day, or everything as one zip.

Specification: https://clinicaltrials.gov/data-api/api (``/version``, ``/studies``), and the site's own download,
``/studies/download?format=json.zip``.
"""

from __future__ import annotations

import datetime
import logging
import lzma
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import httpx
import orjson
from pydantic import Field, model_validator

from medllm_ops.fetch.base import FetchedFile, FetchError, FetchSettings, Known
from medllm_ops.fetch.http import Client
from medllm_ops.fetch.http_answers import HttpError
from medllm_ops.fetch.pages import Pages
from medllm_ops.files import sha256_of

log = logging.getLogger(__name__)

_REFUSED = 400  # a token that expired, or a query that the API does not understand
_RUN_AGAIN = "what came before is kept; run the refresh again later"


class Settings(FetchSettings):
    """What the ClinicalTrials.gov fetcher can be told."""

    base_url: str = Field(default="https://clinicaltrials.gov/api/v2/", description="The address of the API.")
    since: datetime.date | None = Field(
        default=None, description="The first refresh brings studies updated on this day or later; none: all studies."
    )
    query: str = Field(default="", description="Only studies that match this search expression (the API's query.term).")
    page_size: int = Field(default=500, ge=1, le=1000, description="Studies in a page; 500 have some 9 MB.")
    requests_per_minute: float = Field(default=50, gt=0, description="At most so many requests in a minute.")
    bulk: bool = Field(default=False, description="Bring everything as one zip (2.7 GB) instead of pages.")

    @model_validator(mode="after")
    def _bulk_is_everything(self) -> Settings:
        if self.bulk and (self.since or self.query):
            raise ValueError("bulk brings every study: leave since and query out, or bulk")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """The studies updated since a day, read page by page; it is the watermark.

    ``since`` and ``timestamp`` say which studies the publisher had when the first page was asked for; ``page`` (from
    1) and ``token`` are the next page's, and ``seen`` of ``total`` studies came in the pages before it. After the last
    page ``page`` is 0. ``first`` and ``query`` say what all windows together have brought.
    """

    first: str = ""
    query: str = ""
    since: str = ""
    timestamp: str = ""
    page_size: int = 0
    page: int = 0
    token: str = ""
    seen: int = 0
    total: int = 0

    @classmethod
    def read(cls, watermark: Mapping[str, Any]) -> _Window:
        return cls(**{key: watermark[key] for key in cls.__slots__ if key in watermark})

    def covers(self, settings: Settings) -> bool:
        """Whether what it asks for, with the windows before it, is what the settings ask for."""
        wanted = settings.since.isoformat() if settings.since else ""
        return bool(self.timestamp) and self.query == settings.query and self.first <= wanted


def fetch(settings: Settings, known: Known, folder: Path, client: Client) -> Iterator[FetchedFile]:
    """Yield a raw file for each page of studies updated since the last refresh, or one zip of all studies.

    :raises FetchError: if the API cannot be read, or the zip is not whole.
    """
    seconds = 60 / settings.requests_per_minute
    client.pause = (seconds, seconds)
    files = _bulk(settings, known, folder, client) if settings.bulk else _pages(settings, known, folder, client)
    return islice(files, settings.max_files or None)


def _pages(settings: Settings, known: Known, folder: Path, client: Client) -> Iterator[FetchedFile]:
    window = _Window.read(known.watermark)
    if not window.covers(settings):
        since = settings.since.isoformat() if settings.since else ""
        window = _Window(first=since, query=settings.query, since=since)
    # The other parameters must not change between two pages.
    if not window.token or window.page_size != settings.page_size:
        timestamp = _timestamp(settings, client)
        if window.timestamp == timestamp and not window.page:
            log.info("ClinicalTrials.gov has nothing new since %s", timestamp)
            return
        window = _first_page(window, settings, timestamp)
    pages = Pages(folder)
    may_restart = True
    while window.page:
        try:
            response, page = _page(settings, window, client)
        except HttpError as error:
            if error.status != _REFUSED or window.page == 1 or not may_restart:
                _fail(error, window)
            may_restart = False
            log.warning("ClinicalTrials.gov refused the token of page %d; beginning again at page 1", window.page)
            window = _first_page(window, settings, _timestamp(settings, client))
            continue
        number = window.page
        following = _after(window, page)
        name = f"studies-{window.timestamp[:10]}-{window.since or 'all'}-{number:05}.json"
        left = -(-(following.total - following.seen) // settings.page_size) if following.page else 0
        yield pages.keep(name, response.content, str(response.url), asdict(following), max(left, 0))
        window = following


def _first_page(window: _Window, settings: Settings, timestamp: str) -> _Window:
    return replace(window, timestamp=timestamp, page_size=settings.page_size, page=1, token="", seen=0, total=0)


def _page(settings: Settings, window: _Window, client: Client) -> tuple[httpx.Response, dict[str, Any]]:
    params: dict[str, Any] = {"format": "json", "pageSize": settings.page_size}
    if settings.query:
        params["query.term"] = settings.query
    if window.since:
        params["filter.advanced"] = f"AREA[LastUpdatePostDate]RANGE[{window.since},MAX]"
    if window.page == 1:
        params["countTotal"] = "true"
    else:
        params["pageToken"] = window.token
    return client.read(_address(settings, "studies"), lambda response: (response, _read_page(response)), params)


def _read_page(response: httpx.Response) -> dict[str, Any]:
    page = _read_object(response)
    if not isinstance(page.get("studies"), list):
        raise ValueError("the answer has no list of studies")
    return {**page, "studies": len(page["studies"])}


def _read_object(response: httpx.Response) -> dict[str, Any]:
    try:
        value = orjson.loads(response.content)
    except orjson.JSONDecodeError as error:
        kind = response.headers.get("content-type", "no content type")
        raise ValueError(
            f"the answer ({kind}, {len(response.content)} bytes) is not whole JSON: {error.msg}"
        ) from error
    if not isinstance(value, dict):
        raise ValueError("the answer is JSON, but no object")
    return value


def _after(window: _Window, page: Mapping[str, Any]) -> _Window:
    """What is left to do after a page; after the last one, what the next refresh begins with."""
    seen = window.seen + int(page["studies"])
    total = int(page.get("totalCount") or window.total)
    log.info("page %d of ClinicalTrials.gov: %d of %d studies", window.page, seen, total)
    if token := page.get("nextPageToken"):
        return replace(window, page=window.page + 1, token=str(token), seen=seen, total=total)
    if seen < total:
        log.warning(
            "ClinicalTrials.gov named %d studies updated since %s, but its %d pages hold %d",
            total,
            window.since or "ever",
            window.page,
            seen,
        )
    # That day once more: studies posted on it after the timestamp bear its date too. Applying one twice is harmless.
    return replace(window, since=window.timestamp[:10], page_size=0, page=0, token="", seen=0, total=0)


def _bulk(settings: Settings, known: Known, folder: Path, client: Client) -> Iterator[FetchedFile]:
    timestamp = _timestamp(settings, client)
    day = timestamp[:10]
    name = f"studies-{day}.json.zip"
    if known.generation == day or name in known.files:
        log.info("ClinicalTrials.gov's zip of %s is in the corpus", day)
        return
    url = f"{_address(settings, 'studies/download')}?format=json.zip"
    path = folder / name
    if not path.exists():
        # One name for every day: the half download of an older day is found and thrown away, not left behind.
        try:
            _whole_zip(url, folder / "studies.json.zip", client).replace(path)
        except HttpError as error:
            _fail(error, None)
    watermark = _Window(since=day, timestamp=timestamp)
    yield FetchedFile(
        name=name,
        path=path,
        url=url,
        checksum=sha256_of(path),
        generation=day,
        generation_complete=True,
        watermark=asdict(watermark),
    )


def _whole_zip(url: str, path: Path, client: Client) -> Path:
    """Download until every member of the zip is whole; twice at most.

    The publisher gives no checksum, and a study that cannot be read would be taken for one that is gone.
    """
    for _ in range(2):
        client.download(url, path)
        damage = _damage(path)
        if not damage:
            return path
        log.warning("the zip from %s %s", url, damage)
        path.unlink()
    raise FetchError(f"{url}: the zip {damage}, twice; nothing of it was kept; run the refresh again later")


def _damage(path: Path) -> str:
    """What is wrong with a zip of studies; nothing if it is whole."""
    try:
        with zipfile.ZipFile(path) as archive:
            studies = sum(name.endswith(".json") for name in archive.namelist())
            log.info("the zip of ClinicalTrials.gov names %d studies; reading them all once", studies)
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError) as error:
        return f"is not whole ({error})"
    if damaged:
        return f"is damaged at {damaged}"
    return "" if studies else "holds no study"


def _timestamp(settings: Settings, client: Client) -> str:
    """When the publisher's data were last renewed: ``2026-07-01T09:00:05``."""
    try:
        return client.read(_address(settings, "version"), _read_timestamp)
    except HttpError as error:
        _fail(error, None)


def _read_timestamp(response: httpx.Response) -> str:
    stated = _read_object(response).get("dataTimestamp")
    if not isinstance(stated, str):
        raise ValueError("the answer has no dataTimestamp")
    datetime.datetime.fromisoformat(stated)
    return stated


def _address(settings: Settings, path: str) -> str:
    return f"{settings.base_url.rstrip('/')}/{path}"


def _fail(error: HttpError, window: _Window | None) -> NoReturn:
    remedy = _RUN_AGAIN
    if error.status == _REFUSED and window:
        remedy = f"the API does not accept the question; check the setting query ({window.query!r})"
    raise FetchError(f"ClinicalTrials.gov cannot be read: {error}; {remedy}") from error
