"""中医世家: a slow and obedient crawler of the site's books, in both of its layouts.

The page with the whole book is preferred; without one, the book's chapters are fetched. robots.txt is obeyed. A page
that is lost becomes a page of our own that says why (:func:`~medllm_ops.fetch.tcm_layout.lost_page`), which the parser
turns into one reject; the next refresh asks for it again.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from lxml.html import HtmlElement
from pydantic import Field, field_validator

from medllm_ops import __version__
from medllm_ops.fetch import tcm_layout
from medllm_ops.fetch.base import FetchedFile, FetchError, FetchSettings, Known, time_left
from medllm_ops.fetch.http import Client
from medllm_ops.fetch.http_answers import HttpError
from medllm_ops.fetch.robots import Robots
from medllm_ops.fetch.visits import Visits
from medllm_ops.files import write_whole

log = logging.getLogger(__name__)

LOST = "lost: "
"""The checksum of a page that could not be fetched begins so."""

_MOST_LISTS = 200
_REST = "what came before is kept; run the refresh again later"


class Settings(FetchSettings):
    """What the 中医世家 crawler can be told."""

    base_url: str = Field(default="https://www.zysj.com.cn/", description="The address of the site.")
    sections: tuple[str, ...] = Field(
        default=("/lilunshuji/",), min_length=1, description="The sections whose books are fetched, as paths."
    )
    books: int = Field(default=0, ge=0, description="Only so many books, the first ones; 0: all.")
    delay: tuple[float, float] = Field(
        default=(3, 7), description="Seconds between two requests: at least and at most. robots.txt may ask for more."
    )
    user_agent: str = Field(
        default=f"medllm-ops/{__version__}", min_length=1, description="How the crawler introduces itself."
    )
    revisit_days: int = Field(
        default=0, ge=0, description="Look again at a page that was visited so many days ago; 0: never."
    )
    lost_in_a_row: int = Field(default=10, ge=1, description="So many newly lost pages in a row end the crawl.")

    @field_validator("sections")
    @classmethod
    def _are_paths(cls, sections: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [path for path in sections if not (path.startswith("/") and path.endswith("/"))]:
            raise ValueError(f"a section is a path such as /lilunshuji/, not {wrong[0]!r}")
        return sections

    @field_validator("delay")
    @classmethod
    def _is_a_range(cls, delay: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= delay[0] <= delay[1]:
            raise ValueError("the delay is two numbers of seconds, the smaller one first")
        return delay


class _LostError(Exception):
    """A page that could not be had; ``gone``: the site says that there is none; ``forbidden``: by robots.txt."""

    def __init__(self, reason: str, *, gone: bool = False, forbidden: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.gone = gone
        self.forbidden = forbidden


def fetch(settings: Settings, known: Known, folder: Path, client: Client) -> Iterator[FetchedFile]:
    """Yield a raw file for each page of text that is not known, is known as lost, or changed since it was known.

    :raises FetchError: if robots.txt cannot be read or forbids the lists, if a list of books cannot be read or there
        is none on the site, or if too many pages are lost in a row.
    """
    return islice(_Crawl(settings, known, folder, client).files(), settings.max_files or None)


class _Crawl:
    def __init__(self, settings: Settings, known: Known, folder: Path, client: Client) -> None:
        self._settings = settings
        self._known = known
        self._folder = folder
        self._client = client
        self._visits = Visits(folder / "visits.jsonl")
        self._robots = Robots("", settings.user_agent)
        self._lost_in_a_row = 0

    def files(self) -> Iterator[FetchedFile]:
        self._client.pause = self._settings.delay
        self._robots = Robots.read(self._settings.base_url, self._settings.user_agent, self._client)
        self._client.pause = self._robots.pause(self._settings.delay)
        books = self._books()
        began = time.monotonic()
        for done, book in enumerate(books):
            left = f"; about {time_left(time.monotonic() - began, done, len(books) - done)} left" if done else ""
            log.info("book %d of %d: %s%s", done + 1, len(books), book, left)
            yield from self._book(book)

    def _books(self) -> list[str]:
        """The addresses of the books' folders, each once, in the order of the lists."""
        found: dict[str, None] = {}
        for section in self._settings.sections:
            start = urljoin(self._settings.base_url, section)
            for books in self._lists(start):
                found |= dict.fromkeys(book for book in books if book.startswith(start) and book != start)
                if self._settings.books and len(found) >= self._settings.books:
                    return list(found)[: self._settings.books]
        if not found:
            raise FetchError(
                f"{self._settings.base_url} names no book in {', '.join(self._settings.sections)}: the site has "
                "changed, or is another's now; look at it in a browser"
            )
        return list(found)

    def _lists(self, start: str) -> Iterator[list[str]]:
        """The books of each list of a section: its index, the lists that it names, and ``index___1.html`` and on."""
        url = start + tcm_layout.INDEX
        index = self._list(url)
        if index is None:
            return
        yield tcm_layout.book_folders(index, url)
        for link in tcm_layout.book_lists(index, url):
            if link.startswith(start) and link != url and (page := self._list(link)) is not None:
                yield tcm_layout.book_folders(page, link)
        before: list[str] = []
        for number in range(1, _MOST_LISTS + 1):
            url = f"{start}index___{number}.html"
            page = self._list(url)
            books = [] if page is None else tcm_layout.book_folders(page, url)
            # Some sites answer every address with the same page.
            if not books or books == before:
                return
            yield books
            before = books

    def _list(self, url: str) -> HtmlElement | None:
        try:
            return self._get(url)[1]
        except _LostError as error:
            if error.gone:
                return None
            raise FetchError(f"the list of books {url} cannot be read: {error.reason}; {_REST}") from error

    def _book(self, book: str) -> Iterator[FetchedFile]:
        whole = book + tcm_layout.WHOLE_BOOK
        in_chapters = any(name.startswith(_name(book)) for name in self._known.files if name != _name(whole))
        if not in_chapters and not self._is_due(whole):
            return
        without = _LostError("known in chapters")
        if not in_chapters:
            try:
                yield from self._text(whole)
            except _LostError as error:
                without = error
            else:
                return
        chapters = self._chapters(book)
        if not chapters:
            yield from self._lose(whole, without)
        elif _name(whole) in self._known.files:
            yield FetchedFile(name=_name(whole), path=None, url=whole)
        for chapter in filter(self._is_due, chapters):
            try:
                yield from self._text(chapter)
            except _LostError as error:
                yield from self._lose(chapter, error)

    def _chapters(self, book: str) -> list[str]:
        url = book + tcm_layout.INDEX
        try:
            return tcm_layout.chapters(self._get(url)[1], url)
        except _LostError as error:
            log.warning("%s: %s", url, error.reason)
            return []

    def _is_due(self, url: str) -> bool:
        name = _name(url)
        checksum = self._known.files.get(name, LOST)
        if checksum.startswith(LOST):
            return True
        days = self._settings.revisit_days
        # Fetched is not applied: what a killed refresh saw last counts only if it is in the corpus.
        return days > 0 and self._visits.days_since(name, checksum) >= days

    def _text(self, url: str) -> Iterator[FetchedFile]:
        """Fetch a page of text, and yield it if its text is news."""
        data, page = self._get(url)
        content = tcm_layout.content_of(page)
        if content is None:
            raise _LostError("no text where the site has it")
        self._lost_in_a_row = 0
        checksum = hashlib.sha256(tcm_layout.text_of(content).encode()).hexdigest()
        self._visits.record(_name(url), checksum)
        if self._known.files.get(_name(url)) != checksum:
            yield self._kept(url, data, checksum)

    def _lose(self, url: str, error: _LostError) -> Iterator[FetchedFile]:
        """Yield what stands for a lost page. A page that was had before stays, unless the site says it is gone."""
        log.warning("%s: %s", url, error.reason)
        name, checksum = _name(url), LOST + error.reason
        before = self._known.files.get(name, LOST)
        if before == checksum:
            return
        if not before.startswith(LOST):
            if error.gone:
                yield FetchedFile(name=name, path=None, url=url)
        else:
            yield self._kept(url, tcm_layout.lost_page(url, error.reason), checksum)
        self._lost_in_a_row += not error.gone and not error.forbidden
        if self._lost_in_a_row >= self._settings.lost_in_a_row:
            raise FetchError(
                f"{self._lost_in_a_row} pages in a row could not be fetched, the last {url}: {error.reason}; {_REST}"
            )

    def _kept(self, url: str, data: bytes, checksum: str) -> FetchedFile:
        path = self._folder / _name(url)
        with write_whole(path) as file:
            file.write(data)
        return FetchedFile(name=_name(url), path=path, url=url, checksum=checksum, whole=True)

    def _get(self, url: str) -> tuple[bytes, HtmlElement]:
        if not self._robots.allows(url):
            raise _LostError("robots.txt does not allow it", forbidden=True)
        try:
            response = self._client.get(url, headers={"User-Agent": self._settings.user_agent})
        except HttpError as error:
            reason = f"status {error.status}" if error.status else "no answer"
            raise _LostError(reason, gone=error.status in (404, 410)) from error
        if _site(str(response.url)) != _site(url):
            raise _LostError(f"it leads to {_site(str(response.url))}")
        page = tcm_layout.read_page(response.content)
        if page is None:
            raise _LostError("an empty page")
        return response.content, page


def _site(url: str) -> str:
    return (urlsplit(url).hostname or "").removeprefix("www.")


def _name(url: str) -> str:
    """The path of a page on its site, by which it is known."""
    return urlsplit(url).path.lstrip("/")
