"""Words of a docx that mammoth passes over, put where mammoth reads them: fields, ruby, text boxes, rarer breaks."""

from __future__ import annotations

import io
import zipfile
from typing import IO

from lxml import etree

from medllm_ops.errors import UnreadableFileError
from medllm_ops.sources.archives import ZIP_ERRORS
from medllm_ops.sources.docx_safety import MAX_XML_BYTES

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_STRICT = "{http://purl.oclc.org/ooxml/wordprocessingml/main}"
_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_ROOTS = ("document", "footnotes", "endnotes")
# Around runs or in them: what they hold is text like any other.
_AROUND_TEXT = ("fldSimple", "bdo", "dir", "ruby", "rubyBase")
# How the base text of ruby is spoken; and that a cell goes on with the one above it, for which mammoth leaves it out
# and the cells behind it stand in the wrong column.
_NO_TEXT = ("rt", "vMerge")
_SAME = {"cr": "br", "ptab": "tab"}


def with_all_words(file: IO[bytes], path: object) -> IO[bytes]:
    """The docx with its XML parts rewritten, or ``file`` itself at its beginning if there is nothing to rewrite.

    :raises UnreadableFileError: if it takes in another file (``altChunk``), which only Word can turn into text.
    """
    with zipfile.ZipFile(file) as archive:
        parts = [
            name
            for name in dict.fromkeys(archive.namelist())
            if name.endswith((".xml", ".rels")) and archive.getinfo(name).file_size <= MAX_XML_BYTES
        ]
        rewritten = {name: data for name in parts if (data := _rewritten(_read(archive, name), path))}
        copy = io.BytesIO()
        if rewritten:
            with zipfile.ZipFile(copy, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target:
                for name in parts:  # without pictures and fonts: only text is wanted
                    target.writestr(name, rewritten.get(name) or archive.read(name))
    file.seek(0)
    copy.seek(0)
    return copy if rewritten else file


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except ZIP_ERRORS:  # a damaged part may be one that nobody needs
        return b""


def _rewritten(part: bytes, path: object) -> bytes | None:
    """The part with its words in reach; ``None`` if it holds no body text or may stay as it is."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True)
    try:
        root = etree.fromstring(part, parser)
    except etree.XMLSyntaxError:  # mammoth says what is wrong with it, where it matters
        return None
    word = next((name for name in (_W, _STRICT) if root.tag in {name + one for one in _ROOTS}), None)
    if word is None:
        return None
    if next(root.iter(word + "altChunk"), None) is not None:
        message = "takes in another file (altChunk), which is not read; open it in Word and save it again"
        raise UnreadableFileError(path, message)
    names = (*_AROUND_TEXT, *_SAME, *_NO_TEXT, "drawing")
    found = list(root.iter(*(word + name for name in names), _MC + "AlternateContent"))
    for element in reversed(found):  # the inner before the outer
        _rewrite(element, word)
    return etree.tostring(root, encoding="utf-8") if found else None


def _rewrite(element: etree._Element, word: str) -> None:
    name = etree.QName(element).localname
    if name in _SAME:
        element.tag = word + _SAME[name]
    elif name in _AROUND_TEXT:
        _replace(element, list(element))
    elif name in _NO_TEXT:
        _replace(element, [])
    elif name == "drawing":
        _box_as_picture(element, word)
    elif not _has_text(element.find(_MC + "Fallback"), word):
        choice = element.find(_MC + "Choice")
        _replace(element, [] if choice is None else list(choice))


def _replace(element: etree._Element, children: list[etree._Element]) -> None:
    parent = element.getparent()
    if parent is not None:
        place = parent.index(element)
        parent[place : place + 1] = children


def _box_as_picture(drawing: etree._Element, word: str) -> None:
    """Mammoth reads the text boxes of the older ``w:pict`` only, and puts them behind the paragraph."""
    box = word + "txbxContent"
    boxes = [one for one in drawing.iter(box) if not any(outer.tag == box for outer in _between(one, drawing))]
    if boxes:
        drawing.tag = word + "pict"
        drawing[:] = boxes


def _between(element: etree._Element, above: etree._Element) -> list[etree._Element]:
    ancestors = list(element.iterancestors())
    return ancestors[: ancestors.index(above)]


def _has_text(element: etree._Element | None, word: str) -> bool:
    return element is not None and any(text.text for text in element.iter(word + "t"))
