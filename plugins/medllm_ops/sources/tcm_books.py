"""中医世家 text dumps: one classic a file, in sections; each section becomes one or more documents."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from medllm_ops.errors import UnreadableFileError
from medllm_ops.records import EXCERPT_CHARACTERS, Document, Reject
from medllm_ops.sources.archives import open_raw
from medllm_ops.sources.base import Parsed, Source
from medllm_ops.sources.dialogues import content_id
from medllm_ops.sources.raw_text import find_encoding
from medllm_ops.sources.tcm_text import clean, cut, paragraphs_of

NAME = "tcm_books"
URL = "https://www.zysj.com.cn/"
LICENCE = "public domain (text from before 1949)"

MAX_CHARACTERS = 1_200
"""Characters of one record's text; a Chinese character is one token or two, so it fits a window of 2,048."""
MAX_TITLE_CHARACTERS = 120
MAX_FILE_BYTES = 64 << 20
"""Of a file that is read whole; the largest of 700 books has 4 MB."""

_TAG = re.compile(r"<(篇名|目录)>(.*)")
_FIELD = re.compile(r"(书名|作者|朝代|年份)：(.*)")
_BODY_LABEL = re.compile(r"\s*(?:内[容?]|属性)：")
_FILE_NUMBER = re.compile(r"^\d+\s*[-_.、]\s*")
_YEAR = re.compile(r"\d{4}")
_FIRST_YEAR_UNDER_COPYRIGHT = 1949
_BAD_SHARE = 0.05  # random bytes read as GB18030 have 0.08
_BAD_CHARACTERS = 100


@dataclass(slots=True)
class Book:
    """What the head of a dump says."""

    title: str
    author: str = ""
    dynasty: str = ""
    year: str = ""

    @property
    def licence(self) -> str:
        """Free, unless the dump itself names a later year: then nothing is known."""
        years = [int(year) for year in _YEAR.findall(self.year)]
        return "" if years and max(years) >= _FIRST_YEAR_UNDER_COPYRIGHT else LICENCE


@dataclass(slots=True)
class Section:
    """A section as it stands in the file; ``path`` holds the titles of volume and chapter above it."""

    path: tuple[str, ...] = ()
    title: str | None = None
    lines: list[str] = field(default_factory=list)

    @property
    def body(self) -> str:
        """The text below the section's title, without the label before it."""
        return _BODY_LABEL.sub("", "\n".join(self.lines), count=1)


def parse(path: Path) -> Iterator[Parsed]:
    """Yield the documents of each section, or a reject for a section without text.

    :raises UnreadableFileError: if the file cannot be opened, is larger than :data:`MAX_FILE_BYTES`, or is no text.
    """
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
            if not any(line.strip() for line in section.lines):
                continue
        number += 1
        documents = _documents(book, section)
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
        if tag is None:
            section.lines.append(line)
            continue
        name, value = tag.groups()
        if section.title is not None or any(line.strip() for line in section.lines):
            yield section
        path = tuple(filter(None, map(clean, value.split("\\")))) if name == "目录" else section.path
        section = Section(path, clean(value) if name == "篇名" else None)
    if section.title is not None or any(line.strip() for line in section.lines):
        yield section


def _is_head(section: Section) -> bool:
    first = next((line for line in section.lines if line.strip()), "")
    field_ = _FIELD.match(first.strip())
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


def _documents(book: Book, section: Section) -> list[Document]:
    paragraphs = paragraphs_of(section.body)
    if not paragraphs:
        return []
    heading = section.title or (section.path[-1] if section.path else "")
    head = f"《{book.title}》{heading}"[:MAX_TITLE_CHARACTERS]
    origin = "，".join(filter(None, (book.dynasty, book.author, book.year)))
    place = "·".join(filter(None, (*section.path, section.title)))
    title = f"《{book.title}》" + (f"（{origin}）" if origin else "") + place
    identifier = content_id(NAME, book.title, book.author, section.path, section.title, paragraphs)
    texts = cut(paragraphs, MAX_CHARACTERS - len(head) - 1)
    return [
        Document(
            id=identifier if len(texts) == 1 else f"{identifier}#{number}",
            source=NAME,
            language="zh",
            title=title,
            text=f"{head}\n{text}",
            url=URL,
            licence=book.licence,
        )
        for number, text in enumerate(texts, start=1)
    ]


SOURCE = Source(
    name=NAME,
    stage="pretrain",
    folder="tcm_books",
    patterns=("*.txt",),
    parse=parse,
)
