"""Cuts a stream of XML into its records by their tags alone, so that one broken record cannot cost another."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

_LONGEST_TAG = 64
_HEAD = 4096

End: TypeAlias = Literal["closed", "broken", "file", "too large"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of the file; all pieces together are the file, but for the middle of what is too large.

    ``name`` is the record's element, or ``""`` for what lies between records. ``end`` says how it ends:
    ``"closed"`` by its own end tag, ``"broken"`` by the next record or the end of the set, ``"file"`` by the end of
    the file; of what is ``"too large"`` only the first bytes are kept. The last piece is always one that ends by the
    end of the file, and may be empty.
    """

    name: str
    data: bytes
    end: End


def cut(blocks: Iterable[bytes], names: Sequence[str], sets: Sequence[str], limit: int) -> Iterator[Piece]:
    """Cut at ``<name …>`` and ``</name>`` of the given elements, which do not nest, and at ``</set>`` around them.

    Well-formed comments, CDATA sections and processing instructions are stepped over, whatever tags they hold; one
    that does not close, or holds the beginning of another, is taken for damage and stepped into. An end tag
    without its start tag, but with something before it, closes a piece without a name.

    :param limit: the most bytes of one piece; memory stays below twice that.
    """
    cutter = _Cutter(names, sets, limit)
    for block in blocks:
        yield from cutter.feed(block)
    yield from cutter.feed(b"", last=True)


class _Cutter:
    def __init__(self, names: Sequence[str], sets: Sequence[str], limit: int) -> None:
        any_name, any_set = "|".join(names), "|".join(sets)
        self._token = re.compile(
            rf"<(?:(?P<start>{any_name})(?=[\s/>])|/(?:(?P<end>{any_name})|(?P<set>{any_set}))\s{{0,16}}>"
            r"|(?P<skip>!--|!\[CDATA\[|\?))".encode()
        )
        self._limit = limit
        self._data = b""  # from the first byte of the open piece on
        self._scan = 0  # what lies before has been searched
        self._name = ""
        self._head = b""  # the beginning of a piece that has become too large

    def feed(self, block: bytes, last: bool = False) -> Iterator[Piece]:
        data = self._data + block
        start = 0
        while found := self._token.search(data, self._scan):
            at, self._scan = found.span()
            if found["skip"]:
                stop = _end_of_markup(data, at, final=last or len(data) - at > self._limit)
                if stop < 0:
                    self._scan = at
                    break
                self._scan = stop or self._scan
            elif name := found["start"]:
                if at > start:
                    yield self._piece(data[start:at], "broken")
                start, self._name = at, name.decode()
            elif found["set"]:
                if self._name:
                    yield self._piece(data[start:at], "broken")
                    start = at
            elif found["end"] == self._name.encode() or self._is_lost_record(data[start:at]):
                yield self._piece(data[start : self._scan], "closed")
                start = self._scan
        else:
            self._scan = max(self._scan, len(data) - _LONGEST_TAG)
        if last:
            yield self._piece(data[start:], "file")
            return
        if len(data) - start > self._limit and self._scan - start > _HEAD:
            self._head = self._head or data[start : start + _HEAD]
            start = self._scan
        self._data = data[start:]
        self._scan -= start

    def _is_lost_record(self, before: bytes) -> bool:
        # An end tag with nothing before it was a start tag, or came twice.
        return not self._name and bool(self._head or before.strip())

    def _piece(self, data: bytes, end: End) -> Piece:
        if self._head or len(data) > self._limit:
            data, end = self._head or data[:_HEAD], "file" if end == "file" else "too large"
        piece = Piece(self._name, data, end)
        self._name, self._head = "", b""
        return piece


def _end_of_markup(data: bytes, at: int, final: bool) -> int:
    """Where the comment, CDATA section or instruction at ``at`` ends; 0 if it is none, -1 if more data may tell.

    :param final: no more data will come.
    """
    if data.startswith(b"<!--", at):
        body, mark, forbidden = at + 4, b"--", b""
    elif data.startswith(b"<![CDATA[", at):
        body, mark, forbidden = at + 9, b"]]>", b"<![CDATA["
    else:
        body, mark, forbidden = at + 2, b"?>", b"<?"
    stop = data.find(mark, body)
    if forbidden and data.find(forbidden, body, stop if stop >= 0 else len(data)) >= 0:
        return 0
    if stop < 0 or (mark == b"--" and stop + 3 > len(data)):
        return 0 if final else -1
    if mark == b"--":
        return stop + 3 if data[stop + 2 : stop + 3] == b">" else 0
    return stop + len(mark)
