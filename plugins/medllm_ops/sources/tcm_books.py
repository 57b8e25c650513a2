"""中医世家: text dumps, one classic a file, and pages of the site; each section becomes one or more documents.

The dumps are read here, the pages in :mod:`~medllm_ops.sources.tcm_pages`; a file's name or its first
bytes say which it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from medllm_ops.errors import UnreadableFileError
from medllm_ops.fetch import tcm_books as fetch
from medllm_ops.records import EXCERPT_CHARACTERS, Reject
from medllm_ops.sources.archives import open_raw
from medllm_ops.sources.base import Parsed, Source
from medllm_ops.sources.raw_text import find_encoding
from medllm_ops.sources.tcm_pages import is_page, parse_page
from medllm_ops.sources.tcm_records import NAME, Book, documents_of
from medllm_ops.sources.tcm_text import clean, paragraphs_of

MAX_FILE_BYTES = 64 << 20
"""Of a file that is read whole; the largest of 700 books has 4 MB."""

_TAG = re.compile(r"<(篇名|目录)>(.*)")
_FIELD = re.compile(r"(书名|作者|朝代|年份)：(.*)")
_BODY_LABEL = re.compile(r"\s*(?:内[容?]|属性)：")
# What is left of a damaged tag, on the line above a body's label or above a section's title.
_BROKEN_TITLE = re.compile(r".*(?:[<>]|篇名)")
_BROKEN_PATH = re.compile(r"\s*(?:<|目录>)")
_FILE_NUMBER = re.compile(r"^\d+\s*[-_.、]\s*")
_BAD_SHARE = 0.05  # random bytes read as GB18030 have 0.08
_BAD_CHARACTERS = 100


@dataclass(slots=True)
class Section:
    """A section as it stands in the file; ``path`` holds the titles of volume and chapter above it.

    ``broken_tag`` is the line where its tag was, if that cannot be read.
    """

    path: tuple[str, ...] = ()
    title: str | None = None
    lines: list[str] = field(default_factory=list)
    broken_tag: str | None = None

    @property
    def has_tag(self) -> bool:
        """Whether it begins with a tag of its own, be it broken."""
        return self.title is not None or self.broken_tag is not None

    @property
    def first_line(self) -> str:
        """The first line that is not blank, or nothing."""
        return next((line for line in self.lines if line.strip()), "")

    @property
    def body(self) -> str:
        """The text below the section's title, without the label before it."""
        return _BODY_LABEL.sub("", "\n".join(self.lines), count=1)


def parse(path: Path) -> Iterator[Parsed]:
    """Yield the documents of each section, or a reject for a section without text.

    :raises UnreadableFileError: if the file cannot be opened, is larger than :data:`MAX_FILE_BYTES`, or is no text.
    """
    if is_page(path):
        yield from parse_page(path)
        return
    text = _read(path)
    if isinstance(text, Reject):
        yield text
        return
    book = Book(title=clean(_FILE_NUMBER.sub("", path.stem)) or path.stem)
    number = 0
    for section in _sections(text):
        if _is_head(section):
            book, section.lines = _read_head(section, book)
            section.title = None
            if not section.first_line:
                continue
        number += 1
        if section.broken_tag is not None:
            excerpt = f"{section.broken_tag} {section.body.strip()}"[:EXCERPT_CHARACTERS]
            yield Reject(file=str(path), position=f"section {number}", reason="broken tag", excerpt=excerpt)
            continue
        documents = documents_of(book, section.path, section.title, paragraphs_of(section.body))
        yield from documents
        if not documents:
            excerpt = f"{section.title or ''} {section.body.strip()}"[:EXCERPT_CHARACTERS]
            yield Reject(file=str(path), position=f"section {number}", reason="empty section", excerpt=excerpt)
    if not number:
        yield Reject(file=str(path), position="section 1", reason="no text in file")


def _read(path: Path) -> str | Reject:
    with open_raw(path) as file:
        encoding = find_encoding(file, path)
        raw = file.read(MAX_FILE_BYTES + 1)
    if len(raw) > MAX_FILE_BYTES:
        raise UnreadableFileError(path, f"larger than {MAX_FILE_BYTES} bytes; no book is")
    if not raw:
        return Reject(file=str(path), position="section 1", reason="empty file")
    # GB18030 takes a byte that fits nowhere as one unknown character and goes on at the next.
    text = raw.decode(encoding, "replace").replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    if not text.strip():
        return Reject(file=str(path), position="section 1", reason="no text in file")
    unknown = text.count("\ufffd")
    if unknown > _BAD_CHARACTERS and unknown > _BAD_SHARE * len(text):
        raise UnreadableFileError(path, "not text in UTF-8 or GB18030")
    return text


def _sections(text: str) -> Iterator[Section]:
    r"""Cut at the tags ``<目录>volume\chapter`` and ``<篇名>section``; a file without tags is one section."""
    section = Section()
    for line in text.split("\n"):
        tag = _TAG.match(line.strip())
        following: Section | None = None
        if tag and tag[1] == "目录":
            following = Section(tuple(filter(None, map(clean, tag[2].split("\\")))))
        elif tag:
            path_is_lost = bool(_take_last_line(section, _BROKEN_PATH))
            following = Section(() if path_is_lost else section.path, clean(tag[2]))
        elif _BODY_LABEL.match(line) and section.has_tag and _BODY_LABEL.match(section.first_line):
            # A body has one label: what stands above this one was a tag.
            following = Section(section.path, lines=[line], broken_tag=_take_last_line(section, _BROKEN_TITLE))
        if following is None:
            section.lines.append(line)
            continue
        if section.has_tag or section.first_line:
            yield section
        section = following
    if section.has_tag or section.first_line:
        yield section


def _take_last_line(section: Section, pattern: re.Pattern[str]) -> str:
    """Take the last line that is not blank out of a section, if it begins so; else nothing."""
    place = next((n for n in range(len(section.lines) - 1, -1, -1) if section.lines[n].strip()), None)
    if place is None or not pattern.match(section.lines[place]):
        return ""
    line = section.lines[place]
    del section.lines[place:]
    return line


def _is_head(section: Section) -> bool:
    field_ = _FIELD.match(section.first_line.strip())
    return field_ is not None and field_.group(1) == "书名"


def _read_head(section: Section, book: Book) -> tuple[Book, list[str]]:
    """The book that a head describes, and the lines below that are text already."""
    values: dict[str, str] = {}
    lines = iter(section.lines)
    rest: list[str] = []
    for line in lines:
        head = _FIELD.match(line.strip())
        if head and head.group(1) not in values:
            values[head.group(1)] = clean(head.group(2))
        elif line.strip():
            rest = [line, *lines]
    return Book(
        title=values.get("书名") or section.title or book.title,
        author=values.get("作者", ""),
        dynasty=values.get("朝代", ""),
        year=values.get("年份", ""),
    ), rest


SOURCE = Source(
    name=NAME,
    stage="pretrain",
    folder="tcm_books",
    patterns=("*.txt", "*.html", "*.htm"),
    parse=parse,
    fetch=fetch.fetch,
    settings=fetch.Settings,
)
