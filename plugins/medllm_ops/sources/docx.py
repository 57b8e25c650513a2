"""Word documents: body text in reading order, tables as rows of text, notes at the end; one file, one document."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import lxml.html
import mammoth
from lxml import etree
from lxml.html import HtmlElement

from medllm_ops.errors import UnreadableFileError
from medllm_ops.fetch import dataset
from medllm_ops.records import Document, Reject
from medllm_ops.sources.archives import ZIP_ERRORS, open_raw
from medllm_ops.sources.base import Parsed, Source
from medllm_ops.sources.dialogues import content_id, language_of
from medllm_ops.sources.docx_safety import check_parts
from medllm_ops.sources.docx_words import with_all_words
from medllm_ops.sources.text import tidy_line

NAME = "docx"
CELL_SEPARATOR = " | "

# mammoth knows "Heading 1" to "Heading 6" by itself.
_STYLES = "p[style-name='Title'] => h1:fresh\nbr[type='page'] => hr"
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_LISTS = frozenset({"ul", "ol"})
_NOTE = re.compile(r"(?:foot|end)note-[\w-]+")
_BACK_TO_TEXT = re.compile(r"#(?:foot|end)note-ref-")
_CORE_TITLE = "{http://purl.org/dc/elements/1.1/}title"


def parse(path: Path) -> Iterator[Parsed]:
    """Yield the document, or a reject if it holds no text.

    Pictures, comments, headers, footers and deleted text are no text; mammoth, which reads the format, does not
    read formulas. A hyperlink is its text. The id is made of the text: a moved file keeps it, an edited one
    becomes another document.

    :raises UnreadableFileError: if the file is no docx, is refused for safety (see :func:`check_parts`), or takes in
        another file.
    """
    with open_raw(path) as file:
        if not file.read(1):
            yield Reject(file=str(path), position="document", reason="empty file")
            return
        file.seek(0)
        check_parts(file, path)
        root = _read_body(file, path)
        core_title = _core_title(file)
    lines = list(_lines(root))
    text = "\n".join(lines)
    if not text:
        yield Reject(file=str(path), position="document", reason="no text in file")
        return
    yield Document(
        id=content_id(NAME, text),
        source=NAME,
        language=language_of([text]),
        title=core_title or _first_heading(root) or path.stem,
        text=text,
    )


def _read_body(file: IO[bytes], path: Path) -> HtmlElement:
    try:
        words = with_all_words(file, path)
        html = mammoth.convert_to_html(words, style_map=_STYLES, convert_image=_no_image).value
        # Without huge_tree a paragraph ends after 10 MB, and nobody is told.
        return lxml.html.fragment_fromstring(html, create_parent="div", parser=lxml.html.HTMLParser(huge_tree=True))
    except UnreadableFileError:
        raise
    except Exception as error:
        # mammoth lets through whatever a damaged part makes it stumble over: KeyError, IndexError, ExpatError, …
        message = f"not a whole docx ({type(error).__name__}: {error}); open it in Word and save it again"
        raise UnreadableFileError(path, message) from error


def _no_image(_image: object) -> list[object]:
    return []


def _core_title(file: IO[bytes]) -> str:
    file.seek(0)
    with zipfile.ZipFile(file) as archive:
        try:
            core = archive.read("docProps/core.xml")
        except (KeyError, *ZIP_ERRORS):
            return ""
    try:
        root = etree.fromstring(core, etree.XMLParser(resolve_entities=False, no_network=True))
    except etree.XMLSyntaxError:
        return ""
    return tidy_line(root.findtext(_CORE_TITLE) or "")


def _first_heading(root: HtmlElement) -> str:
    for element in root.iter(*_HEADINGS):
        if heading := tidy_line(element.text_content()):
            return heading
    return ""


def _lines(block: HtmlElement) -> Iterator[str]:
    """The lines of text of a block, down through lists and tables; notes begin with their number, ``[1]``."""
    for element in block:
        if element.tag == "table":
            yield from _table_lines(element)
        elif element.tag in _LISTS:
            for number, item in enumerate(element, start=1):
                mark = f"[{number}] " if _NOTE.fullmatch(item.get("id", "")) else ""
                yield from _item_lines(item, mark)
        else:
            yield from _text_lines(element)


def _item_lines(item: HtmlElement, mark: str) -> Iterator[str]:
    for line in _block_or_text(item):
        yield mark + line
        mark = ""


def _block_or_text(element: HtmlElement) -> Iterator[str]:
    """The lines of an element that holds text of its own, blocks, or first text and then blocks (list items)."""
    inline = lxml.html.fragment_fromstring("<p></p>")
    inline.text = element.text
    blocks = lxml.html.fragment_fromstring("<div></div>")
    for child in list(element):
        (blocks if child.tag in {"p", "table", "div", *_LISTS, *_HEADINGS} else inline).append(child)
    yield from _text_lines(inline)
    yield from _lines(blocks)


def _table_lines(table: HtmlElement) -> Iterator[str]:
    """A line a row; the rows of a table inside a cell follow the row that the cell is in."""
    rows = [row for row in table.iter("tr") if next(row.iterancestors("table")) is table]
    for row in rows:
        cells, nested = [], []
        for cell in row:
            inner = [element for element in cell.iter("table") if next(element.iterancestors("table")) is table]
            for element in inner:
                nested += list(_table_lines(element))
                element.drop_tree()
            cells.append(" ".join(_block_or_text(cell)))
        if any(cells):
            yield CELL_SEPARATOR.join(cells)
        yield from nested


def _text_lines(element: HtmlElement) -> Iterator[str]:
    for anchor in element.findall(".//a"):
        if _BACK_TO_TEXT.match(anchor.get("href") or ""):
            anchor.drop_tree()
    for line_break in element.findall(".//br"):
        line_break.tail = "\n" + (line_break.tail or "")
    for line in element.text_content().split("\n"):
        if tidied := tidy_line(line):
            yield tidied


SOURCE = Source(
    name=NAME,
    stage="pretrain",
    folder="docx",
    patterns=("*.docx",),
    parse=parse,
    fetch=dataset.fetch,
    settings=dataset.Settings,
)
