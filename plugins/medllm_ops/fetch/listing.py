"""What a web server's page lists of a folder: Apache's and nginx's pages, plain or as tables."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import unquote, urljoin, urlsplit

_IS_LISTING = re.compile(r"\b(?:index of|directory listing)\b", re.IGNORECASE)
_DATE = re.compile(r"\b(?:(\d{4}-\d\d-\d\d)|(\d\d-[A-Za-z]{3}-\d{4}))\b")


@dataclass(slots=True)
class Entry:
    """A name in a folder, and the day that the page shows beside it."""

    name: str
    date: datetime.date | None = None


def read_listing(page: str, url: str) -> list[Entry]:
    """Read the names that lie in the folder ``url`` itself, in the page's order; other links are left out.

    :raises ValueError: if the page is no listing, or breaks off.
    """
    links = _Links()
    links.feed(page)
    if links.has_html and not links.has_end:
        raise ValueError("the listing breaks off")
    here = urlsplit(url).path.rstrip("/") + "/"
    entries: dict[str, Entry] = {}
    for href, text in links.found:
        path, _, name = unquote(urlsplit(urljoin(url, href)).path).rpartition("/")
        if name and f"{path}/" == unquote(here):
            entry = entries.setdefault(name, Entry(name))  # an icon may link to it, too
            entry.date = entry.date or _date(text)
    is_listing = _IS_LISTING.search(links.heading) or any(href in ("..", "../") for href, _ in links.found)
    if not entries and not is_listing:
        raise ValueError(f"this is no listing of a folder, but a page that says: {' '.join(links.text.split())[:80]}")
    return list(entries.values())


def _date(text: str) -> datetime.date | None:
    found = _DATE.search(text)
    if not found:
        return None
    try:
        return datetime.datetime.strptime(found[0], "%Y-%m-%d" if found[1] else "%d-%b-%Y").date()
    except ValueError:
        return None


class _Links(HTMLParser):
    """``found`` are the links, each with the text that follows it up to the next one."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.heading = self.text = ""
        self.has_html = self.has_end = False
        self._tag = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        self.has_html = self.has_html or tag == "html"
        if tag == "a":
            self.found.append((dict(attrs).get("href") or "", ""))

    def handle_endtag(self, tag: str) -> None:
        self.has_end = self.has_end or tag == "html"

    def handle_data(self, data: str) -> None:
        if self._tag in ("title", "h1"):
            self.heading += data
        if self.found:
            href, text = self.found[-1]
            self.found[-1] = (href, text + data)
        if len(self.text) < 1000:
            self.text += f" {data}"
