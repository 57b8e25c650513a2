"""PubMed citations in NLM's XML: baseline and update files, and answers of EFetch; plain or gzip.

The format is NLM's DTD ``pubmed_250101``; the DTD itself is never fetched. Records are cut out of the file by their
tags and parsed one by one, so that a broken one costs itself only. The file's encoding is UTF-8, as NLM's always is,
whatever its first line says.

The text is the title and, on lines of their own, the paragraphs of ``Abstract``. A title in brackets stays in them:
NLM writes so the titles that it translated. ``OtherAbstract`` and ``VernacularTitle`` are not the text, nor are
copyright statements and contact data, wherever the publisher put them. The language is that of the text, which is
English but for a few; ``Language`` is that of the article.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from lxml import etree

from medllm_ops.errors import UnreadableFileError
from medllm_ops.fetch import pubmed as fetch
from medllm_ops.records import Deletion, Document, Reject
from medllm_ops.sources.archives import RawFile, check_md5_sidecar
from medllm_ops.sources.base import Parsed, Source
from medllm_ops.sources.dialogues import language_of
from medllm_ops.sources.pubmed_citation import abstract_of, is_number, is_retracted, parse_xml, title_of
from medllm_ops.sources.text import excerpt
from medllm_ops.sources.xml_records import Piece, cut

MAX_RECORD_BYTES = 5_000_000
"""A larger record is refused; the largest of PubMed, with thousands of authors, have about 2 MB."""

LICENCE = "NLM terms and conditions; the abstract may be under its publisher's copyright"

BROKEN = "broken XML"
CUT_OFF = "file ends in the middle"
DAMAGED = "damaged gzip data"
EMPTY = "empty file"
NO_ABSTRACT = "no abstract"
NO_PMID = "no PMID"
NO_RECORDS = "no records in file"
NOT_UTF8 = "not UTF-8"
STRAY = "content outside any record"
TOO_LARGE = "record too large"

_CITATIONS = {"PubmedArticle": "MedlineCitation", "PubmedBookArticle": "BookDocument"}
_SETS = ("PubmedArticleSet", "PubmedBookArticleSet")
_DELETIONS = ("DeleteCitation", "DeleteDocument")

# What may lie between records: instructions, comments, the DOCTYPE, the tags of the set.
_BETWEEN = re.compile(
    rb"\xef\xbb\xbf|<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^\[\]<>]*(?:\[[^\]]*\]\s*)?>|</?\w+Set(?:\s[^<>]*)?/?>", re.DOTALL
)
_SET_TAG = re.compile(rb"<(/?)\w+Set(?:\s[^<>]*?)?(/?)>")
_ELEMENT = re.compile(rb"<([A-Za-z_][\w.:-]*)(?:\s[^<>]*)?/?>")
_COMMENT = re.compile(rb"<!--.*?-->", re.DOTALL)
_OWN_PMID = re.compile(rb"<(?:MedlineCitation|BookDocument)\b[^<>]*>\s*<PMID\b[^<>]*>\s*(\d{1,9})\s*</PMID>")
_DELETED_PMID = re.compile(rb"<PMID(?:\s[^<>]*)?>\s*(\d{1,9})\s*</PMID\s*>")
_DELETIONS_END = re.compile(rb"</(?:DeleteCitation|DeleteDocument)\s*>\Z")
_DELETION_TAG = re.compile(rb"</?Delete(?:Citation|Document)\s*/?>")
# Byte order marks of UTF-16 and UTF-32, and "<?" in them without a mark.
_NOT_UTF8_FILES = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff", b"<\0?\0", b"\0<\0?", b"<\0\0\0?", b"\0\0\0<\0\0\0?")


def parse(path: Path) -> Iterator[Parsed]:
    """Yield one :class:`Document` or :class:`Reject` for each record and one :class:`Deletion` for each deleted PMID.

    Memory is bounded by :data:`MAX_RECORD_BYTES`, not by the file.

    :raises UnreadableFileError: if the file cannot be opened, differs from its ``.md5`` sidecar, is not PubMed XML,
        or declares XML entities.
    """
    check_md5_sidecar(path)
    raw = RawFile(path)
    state = _State(path)
    for piece in cut(raw.blocks(), (*_CITATIONS, *_DELETIONS), _SETS, MAX_RECORD_BYTES):
        for item in state.items(piece, raw):
            state.number += 1
            yield item
    if not state.number:
        yield state.nothing(raw)


class _State:
    """What is known of a file so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = str(path)
        self.number = 0  # of items yielded
        self.pieces = 0
        self.set_open = False
        self.root = ""  # the first element outside any record
        self.text = False  # anything but white space was seen
        self.prolog = False  # the file begins as XML does

    def items(self, piece: Piece, raw: RawFile) -> Iterable[Parsed]:
        self.pieces += 1
        if piece.end == "closed" and piece.name in _CITATIONS:
            self.text = True
            return (self._record(piece),)
        if piece.end != "file" and piece.data.isspace():
            return ()
        return self._unusual(piece, raw)

    def _unusual(self, piece: Piece, raw: RawFile) -> Iterator[Parsed]:
        if not piece.name:
            yield from self._between(piece, raw)
            return
        self.text = True
        if piece.name in _DELETIONS:
            yield from self._deletions(piece)
        elif piece.end == "broken":
            unread = ", and a list of deletions is in it, unread" if b"</Delete" in piece.data else ""
            yield self.reject(BROKEN, piece.data, f"no end tag </{piece.name}>{unread}")
        elif piece.end == "too large":
            yield self.reject(TOO_LARGE, piece.data, f"more than {MAX_RECORD_BYTES} bytes")
        if piece.end == "file":
            yield self._cut_off(raw, piece.data, f"in a {piece.name}")

    def reject(self, reason: str, data: bytes, detail: str = "") -> Reject:
        own = _OWN_PMID.search(data)
        return Reject(
            file=self.file,
            position=f"record {self.number + 1}",
            reason=reason,
            detail=detail,
            id=f"pubmed:{int(own[1])}" if own else None,
            excerpt=excerpt(data),
        )

    def _cut_off(self, raw: RawFile, data: bytes, where: str) -> Reject:
        reason = DAMAGED if raw.damage and not raw.cut_off else CUT_OFF
        return self.reject(reason, data, raw.damage or where)

    def _between(self, piece: Piece, raw: RawFile) -> Iterator[Parsed]:
        data = piece.data
        if self.pieces == 1:
            self._refuse(data)
            self.prolog = data.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<")
        visible = _COMMENT.sub(b"", data)
        for tag in _SET_TAG.finditer(visible):
            self.set_open = not (tag[1] or tag[2])
        if element := _ELEMENT.search(visible):
            self.root = self.root or element[1].decode()
        rest = _BETWEEN.sub(b"", data).strip()
        self.text = self.text or bool(data.strip())
        if piece.end == "file":
            if raw.damage or self.set_open:
                yield self._cut_off(raw, rest, "the end tag of the set is missing")
                return
            if self.number == 0 and not self.set_open and self.root[-3:] != "Set":
                return  # no PubMed file at all: the caller says so
        if _DELETIONS_END.search(rest):
            # The list lost its start tag; its PMIDs are whole.
            yield from self._deletions(replace(piece, data=rest))
        elif rest:
            yield self.reject(TOO_LARGE if piece.end == "too large" else STRAY, rest)

    def _refuse(self, head: bytes) -> None:
        if head.startswith(_NOT_UTF8_FILES):
            raise UnreadableFileError(self.path, "is UTF-16 or UTF-32; PubMed files are UTF-8")
        if b"<!ENTITY" in _COMMENT.sub(b"", head):
            raise UnreadableFileError(self.path, "declares XML entities, which are refused")

    def nothing(self, raw: RawFile) -> Reject:
        """What to say of a file without any record."""
        if not self.text:
            return self._cut_off(raw, b"", "") if raw.damage else self.reject(EMPTY, b"")
        if not self.root and self.prolog:
            return self.reject(CUT_OFF, b"", "before its first element")
        if not self.root:
            raise UnreadableFileError(self.path, "is not XML")
        if self.root[-3:] != "Set":
            raise UnreadableFileError(self.path, f"is not PubMed XML: its first element is <{self.root[:40]}>")
        return self.reject(NO_RECORDS, b"")

    def _deletions(self, piece: Piece) -> Iterator[Parsed]:
        # Not by the XML parser: one broken PMID must not keep thousands of withdrawn records alive.
        data = _COMMENT.sub(b"", piece.data)
        first = self.number
        for place, pmid in enumerate(_DELETED_PMID.finditer(data), start=first + 1):
            yield Deletion(id=f"pubmed:{int(pmid[1])}", file=self.file, position=f"record {place}")
        rest = _DELETION_TAG.sub(b"", _DELETED_PMID.sub(b"", data)).strip()
        if piece.end == "too large":
            yield self.reject(TOO_LARGE, rest, f"more than {MAX_RECORD_BYTES} bytes")
        elif rest and piece.end != "file":
            yield self.reject(BROKEN, rest, f"in {piece.name}")

    def _record(self, piece: Piece) -> Document | Reject:
        data = piece.data
        try:
            root = parse_xml(data)
        except etree.XMLSyntaxError as error:
            try:
                data.decode()
            except UnicodeDecodeError as not_utf8:
                return self.reject(NOT_UTF8, data, f"byte {not_utf8.start} of the record: {not_utf8.reason}")
            return self.reject(BROKEN, data, f"{error.msg} of the record")
        citation = root.find(_CITATIONS[piece.name])
        pmid = None if citation is None else citation.find("PMID")
        number = "" if pmid is None else (pmid.text or "").strip()
        version = "1" if pmid is None else pmid.get("Version", "1").strip()
        if citation is None or not is_number(number) or not is_number(version):
            return self.reject(NO_PMID, data, f"PMID {number[:40]!r}, version {version[:40]!r}")
        article = citation.find("Article") if piece.name == "PubmedArticle" else citation
        abstract = [] if article is None else abstract_of(article)
        if article is None or not abstract:
            # Its newest state has no abstract: an older one, that had, is no longer what NLM says.
            return replace(self.reject(NO_ABSTRACT, data), id=f"pubmed:{int(number)}", withdraws=int(version))
        title = title_of(article)
        text = "\n".join([title, *abstract] if title else abstract)
        return Document(
            id=f"pubmed:{int(number)}",
            source="pubmed",
            language=language_of((text,)),
            title=title,
            text=text,
            url=f"https://pubmed.ncbi.nlm.nih.gov/{int(number)}/",
            licence=LICENCE,
            version=int(version),
            retracted=is_retracted(citation, article),
        )


SOURCE = Source(
    name="pubmed",
    stage="pretrain",
    folder="pubmed",
    patterns=("*.xml", "*.xml.gz"),
    parse=parse,
    publisher_ids=True,
    fetch=fetch.fetch,
    settings=fetch.Settings,
)
