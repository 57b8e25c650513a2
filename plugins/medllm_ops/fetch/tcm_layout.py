"""The pages of 中医世家: where, in both layouts of the site, the books, the chapters and the text stand.

There is no specification; this is what public crawlers of the site read. Lists of books have ``#list-content ul li a``
(older: ``#tab-nav dl`` with the lists, ``#tab-content li a`` with the books); a book has its chapters in
``#catalog-content`` (older: ``#table-of-contents li a``); the text stands in ``div#content``.
"""

from __future__ import annotations

import codecs
import html
import re
from collections.abc import Iterator
from typing import cast
from urllib.parse import urldefrag, urljoin

from lxml import etree
from lxml.html import HtmlElement, HTMLParser, document_fromstring

WHOLE_BOOK = "quanben.html"
INDEX = "index.html"

_BOOKS = "//*[@id='list-content']//li//a/@href | //*[@id='tab-content']//li//a/@href"
_LISTS = "//*[@id='tab-nav']//dl//a/@href"
_CHAPTERS = "//*[@id='catalog-content' or @id='table-of-contents']//a/@href"
_CONTENT = "//div[@id='content']"
_LOST = "medllm-ops-lost"
_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w.:-]{2,30})""", re.IGNORECASE)
_HEAD_BYTES = 4096
_TOLERATED = 0.01


def decode(data: bytes) -> str:
    """The text of a page: in its declared charset, or UTF-8, or GB18030, the first that fits.

    Where none fits in whole, the first with at most one character of a hundred damaged. GB2312 and GBK are read as
    GB18030, which holds both.
    """
    if data.startswith(codecs.BOM_UTF8):
        return data[len(codecs.BOM_UTF8) :].decode("utf-8", "replace")
    encodings = [*_declared(data), "utf-8", "gb18030"]
    for encoding in encodings:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    for encoding in encodings:
        text = data.decode(encoding, "replace")
        if text.count("\ufffd") <= _TOLERATED * len(text):
            return text
    return text


def _declared(data: bytes) -> Iterator[str]:
    if found := _CHARSET.search(data[:_HEAD_BYTES]):
        name = found[1].decode("ascii", "replace").lower()
        name = "gb18030" if name in ("gb2312", "gbk", "gb_2312-80", "x-gbk") else name
        if name.startswith(("utf-16", "utf-32", "utf-7")):
            return  # in which the declaration could not be read as it was
        try:
            # Not every codec of Python's makes text of bytes: "hex" does not.
            "".encode(name)
        except (LookupError, ValueError):
            return
        yield name


def read_page(data: bytes) -> HtmlElement | None:
    """The tree of a page; ``None`` if there is nothing in it."""
    text = decode(data).replace("\0", "")
    # Bytes, because lxml refuses text that declares an encoding of its own.
    parser = HTMLParser(encoding="utf-8", huge_tree=True, remove_comments=True, remove_pis=True)
    try:
        return document_fromstring(text.encode("utf-8", "replace"), parser=parser)
    except etree.ParserError:
        return None


def content_of(page: HtmlElement) -> HtmlElement | None:
    """The element with the text of a book or a chapter; ``None`` if the page has none, or no text in it."""
    for element in cast("list[HtmlElement]", page.xpath(_CONTENT)):
        if text_of(element):
            return element
    return None


def text_of(element: HtmlElement) -> str:
    """All text below an element, but no scripts and styles, on one line."""
    texts = element.xpath(".//text()[not(ancestor::script or ancestor::style)]")
    return " ".join("".join(map(str, cast("list[str]", texts))).split())


def book_folders(page: HtmlElement, url: str) -> list[str]:
    """The addresses of the books' folders in a list of books, in order, each once."""
    links = _links(page, _BOOKS, url)
    return _unique(link.removesuffix(INDEX) for link in links if link.endswith(("/", f"/{INDEX}")))


def book_lists(page: HtmlElement, url: str) -> list[str]:
    """The addresses of the lists of books that a page of the older layout names."""
    return _unique(link for link in _links(page, _LISTS, url) if link.endswith(".html"))


def chapters(page: HtmlElement, url: str) -> list[str]:
    """The addresses of the chapters in a book's table of contents, in order, each once."""
    folder = urljoin(url, ".")
    names = (INDEX, WHOLE_BOOK)
    found = (link for link in _links(page, _CHAPTERS, url) if link.startswith(folder) and link.endswith(".html"))
    return _unique(link for link in found if link.removeprefix(folder) not in names)


def _links(page: HtmlElement, path: str, url: str) -> Iterator[str]:
    """The whole addresses of links, without fragments."""
    for link in cast("list[str]", page.xpath(path)):
        try:
            yield urldefrag(urljoin(url, str(link).strip())).url
        except ValueError:
            continue


def _unique(links: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(links))


def lost_page(url: str, reason: str) -> bytes:
    """A page of our own that stands for one that could not be fetched."""
    return (
        f'<!DOCTYPE html><html><head><meta charset="utf-8"><meta name="{_LOST}" content="{html.escape(reason)}">'
        f"<title>Page lost</title></head><body>{html.escape(url)} could not be fetched.</body></html>\n"
    ).encode()


def lost_reason(page: HtmlElement) -> str:
    """Why the page could not be fetched; nothing for a page of the site."""
    found = cast("list[str]", page.xpath(f"//head/meta[@name='{_LOST}']/@content"))
    return str(found[0]) if found else ""
