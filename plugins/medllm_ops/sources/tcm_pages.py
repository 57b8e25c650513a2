"""Pages of the 中医世家 site, as its crawler brings them: a whole book, or a chapter, in both layouts.

The text stands in ``div#content``. In a whole book each ``div.section`` has a heading and paragraphs; a chapter has an
``h1`` and paragraphs. What stands above a section are the headings of higher rank before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import cast
from urllib.parse import urlsplit

from lxml import etree
from lxml.html import HtmlElement

from medllm_ops.errors import UnreadableFileError
from medllm_ops.fetch.tcm_layout import WHOLE_BOOK, content_of, lost_reason, read_page, text_of
from medllm_ops.records import EXCERPT_CHARACTERS, Reject
from medllm_ops.sources.archives import open_raw
from medllm_ops.sources.base import Parsed
from medllm_ops.sources.tcm_records import URL, Book, documents_of
from medllm_ops.sources.tcm_text import clean

MAX_PAGE_BYTES = 64 << 20
"""Of a page that is read whole; the largest book has some 10 MB of HTML."""
PAGE_LOST = "page lost"
NO_CONTENT = "no text in page"

_PAGE_START = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype\s+html|html|head|\?xml|!--)", re.IGNORECASE)
_START_BYTES = 256
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_LOWEST = len(_HEADINGS)
_LISTS = ("dd", "dl", "dt", "li", "ol", "ul", "table", "tbody", "tr")
_BLOCKS = ("address", "article", "blockquote", "br", "center", "div", "hr", "p", "pre", "section", *_LISTS)
_CELLS = ("td", "th")
_SCRIPTS = ("button", "form", "iframe", "nav", "noscript", "object", "script", "select", "style")
_PICTURES = ("figure", "img", "svg")
_FIELD = re.compile(r"(?:^|(?<=[\s》|｜，；]))(书名|作者|朝代|年份)\s*[：:]\s*")
_LONGEST_VALUE = 30
_IN_BOOK_MARKS = re.compile(r"《([^《》]+)》")
_TITLE_CUTS = re.compile(r"\s*[_|｜]\s*|\s+[-–—]\s+|(?<=[\u3400-\u9fff])[-–—](?=[\u3400-\u9fff])")
_NO_TITLE = re.compile(r"中医世家.*|.*全[本文](?:阅读)?|.*在线阅读|")
_TO_OTHER_PAGES = re.compile(
    r"(?:上一|下一|前一|后一)[篇页章节][:：\s].*|(?:上一|下一)[篇页章节]|返回.{0,8}|.{0,4}目录"
)
_LINES_AROUND = (
    "//*[self::h1 or self::h2 or self::h3 or self::p or self::li or self::dd or self::td or self::span]"
    "[not(ancestor-or-self::*[@id='content'])][not(*[self::p or self::li or self::td or self::span])]"
)


@dataclass(slots=True)
class _Section:
    path: tuple[str, ...] = ()
    title: str | None = None
    paragraphs: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Block:
    """A line of the content: a heading of a rank from 1, or a paragraph of rank 0."""

    text: str
    rank: int = 0


def is_page(path: Path) -> bool:
    """Whether a file is HTML, by its name or its first bytes."""
    if path.suffix.lower() in (".html", ".htm"):
        return True
    with open_raw(path) as file:
        return _PAGE_START.match(file.read(_START_BYTES)) is not None


def parse_page(path: Path) -> Iterator[Parsed]:
    """Yield the documents of each section, or a reject for a section without text, or for a page without any.

    :raises UnreadableFileError: if the file cannot be opened, or is larger than :data:`MAX_PAGE_BYTES`.
    """
    with open_raw(path) as file:
        raw = file.read(MAX_PAGE_BYTES + 1)
    if len(raw) > MAX_PAGE_BYTES:
        raise UnreadableFileError(path, f"larger than {MAX_PAGE_BYTES} bytes; no page is")
    page = read_page(raw)
    reason = lost_reason(page) if page is not None else ""
    if reason:
        yield Reject(file=str(path), position="page", reason=PAGE_LOST, detail=reason)
        return
    content = content_of(page) if page is not None else None
    if page is None or content is None:
        excerpt = text_of(page)[:EXCERPT_CHARACTERS] if page is not None else ""
        yield Reject(file=str(path), position="page", reason=NO_CONTENT, excerpt=excerpt)
        return
    url = _address(page)
    blocks = list(_blocks(content))
    book = _book(page, blocks, path, whole=_is_whole_book(content, url, path))
    for number, section in enumerate(_sections(book, blocks), start=1):
        documents = documents_of(book, section.path, section.title, section.paragraphs, url or URL)
        yield from documents
        if not documents:
            place = "·".join(filter(None, (*section.path, section.title)))
            yield Reject(file=str(path), position=f"section {number}", reason="empty section", excerpt=place)


def _is_whole_book(content: HtmlElement, url: str, path: Path) -> bool:
    names = {PurePosixPath(urlsplit(url).path).name, path.name}
    return WHOLE_BOOK in names or bool(content.xpath("./div[contains(concat(' ', @class, ' '), ' section ')]"))


def _address(page: HtmlElement) -> str:
    """The address that the page gives itself; nothing if it gives none."""
    found = cast("list[str]", page.xpath("//link[@rel='canonical']/@href | //meta[@property='og:url']/@content"))
    return next((str(link).strip() for link in found if str(link).strip().startswith(("https://", "http://"))), "")


def _blocks(content: HtmlElement) -> Iterator[_Block]:
    """The headings and paragraphs of the content in reading order, cleaned, without links to other pages."""
    etree.strip_elements(content, *_SCRIPTS, *_PICTURES, with_tail=False)
    buffer: list[str] = []
    rank = 0

    def flush() -> Iterator[_Block]:
        text = clean("".join(buffer))
        buffer.clear()
        if text and (rank or not _TO_OTHER_PAGES.fullmatch(text)):
            yield _Block(text, rank)

    for event, element in etree.iterwalk(content, events=("start", "end")):
        tag = str(element.tag)
        starts = event == "start"
        # The first line of a section is its heading, whatever it is made of.
        is_heading = tag in _HEADINGS or "title" in (element.get("class") or "").split()
        if is_heading or tag in _BLOCKS:
            yield from flush()
        if is_heading:
            rank = (_HEADINGS.index(tag) + 1 if tag in _HEADINGS else _LOWEST) if starts else 0
        if not starts and tag in _CELLS:
            buffer.append(" ")
        text = element.text if starts else element.tail if element is not content else None
        buffer.append(text or "")
    yield from flush()


def _book(page: HtmlElement, blocks: list[_Block], path: Path, whole: bool) -> Book:
    """What the page says of its book. Fields at the head of the content are taken out of ``blocks``."""
    lines = [text_of(element) for element in cast("list[HtmlElement]", page.xpath(_LINES_AROUND))]
    for place, block in enumerate(list(blocks)):
        if _FIELD.match(block.text):
            lines.append(block.text)
            blocks[place] = _Block("")
        elif block.rank == 0:
            break
    blocks[:] = [block for block in blocks if block.text]
    values: dict[str, str] = {}
    for line in lines:
        parts = _FIELD.split(line)
        for name, value in zip(parts[1::2], parts[2::2], strict=True):
            values.setdefault(name, _value(value))
    return Book(
        title=values.get("书名") or _title(page, blocks, whole) or clean(path.stem) or path.stem,
        author=values.get("作者", ""),
        dynasty=values.get("朝代", ""),
        year=values.get("年份", ""),
        old_collection=False,
    )


def _value(text: str) -> str:
    text = clean(text).strip("《》 |｜，,；;")
    return text if len(text) <= _LONGEST_VALUE else text.split()[0]


def _title(page: HtmlElement, blocks: list[_Block], whole: bool) -> str:
    """The book's title: its own heading, what stands in 《》 in the page's title, or the last of its parts."""
    own = [
        text_of(heading) for heading in cast("list[HtmlElement]", page.xpath("//h1[not(ancestor::*[@id='content'])]"))
    ]
    first = blocks[0].text if blocks else ""
    stated = clean(str(page.findtext(".//title") or ""))
    for text in (*own, stated, first if whole else ""):
        if marked := _IN_BOOK_MARKS.search(text):
            return clean(marked[1])
    parts = [part.strip() for part in _TITLE_CUTS.split(stated)]
    parts = [part for part in parts if not _NO_TITLE.fullmatch(part) and (whole or part != first)]
    if whole:
        return next((clean(text) for text in (*own, *parts, first) if text and not _NO_TITLE.fullmatch(text)), "")
    return parts[-1] if parts else ""


def _sections(book: Book, blocks: list[_Block]) -> Iterator[_Section]:
    """The sections in order. One that has nothing below its heading, but sections of a lower rank, is their path."""
    above: list[_Block] = []
    section = _Section()
    rank = 0
    for block in blocks:
        if not block.rank:
            section.paragraphs.append(block.text)
            continue
        is_above = not section.paragraphs and block.rank > rank
        if section.paragraphs or (section.title is not None and not is_above):
            yield section
        if block.rank == 1 and block.text.strip("《》") == book.title:
            above, section, rank = [], _Section(), 0
            continue
        while above and above[-1].rank >= block.rank:
            above.pop()
        section, rank = _Section(tuple(heading.text for heading in above), block.text), block.rank
        above.append(block)
    if section.paragraphs or section.title is not None:
        yield section
