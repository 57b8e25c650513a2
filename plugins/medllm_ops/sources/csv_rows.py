"""Rows of CSV with quoted newlines, going on after a broken quote."""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from medllm_ops.errors import UnreadableFileError
from medllm_ops.records import Reject, writable
from medllm_ops.sources.raw_text import Encoding, has_undecoded_bytes, limited_lines, text_of
from medllm_ops.sources.row import ROW_LIMIT, Row, RowError

# Columns that hold lists in the JSON form of the same formats; in CSV they are written as JSON.
_LIST_COLUMNS = frozenset({"history", "messages", "conversations", "conversation"})
_CELL = re.compile(rb'(?:"(?:[^"]++|"")*+"|[^",\r\n]*+)(,|\r?\n|\Z)')
_LONGEST_SEARCH = 32 << 20
"""Bytes in which the end of a row beyond the limit is looked for."""


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    start: int  # byte of the file
    text: str
    too_long: bool


class _TooLargeError(Exception):
    """The record that the reader is in has grown beyond the limit."""


class _Lines(Iterator[str]):
    """The physical lines for ``csv.reader``; those of a failed record can be given back."""

    def __init__(self, file: IO[bytes], encoding: Encoding) -> None:
        self._file = file
        self._source = limited_lines(file, ROW_LIMIT)
        self._encoding = encoding
        self._given_back: deque[_Line] = deque()
        self._size = 0
        self.taken: list[_Line] = []

    def __next__(self) -> str:
        line = self._given_back.popleft() if self._given_back else self._read()
        self.taken.append(line)
        self._size += len(line.text)
        if line.too_long or self._size > ROW_LIMIT:
            raise _TooLargeError
        return line.text

    def _read(self) -> _Line:
        number, start, line, too_long = next(self._source)
        return _Line(number, start, text_of(line, self._encoding, "surrogateescape"), too_long)

    def begin_record(self) -> None:
        self.taken = []
        self._size = 0

    def give_back_all_but_first(self) -> None:
        self._given_back.extendleft(reversed(self.taken[1:]))

    def skip_large_row(self, cells: int) -> bool:
        """Go on behind a row that is beyond the limit, if it has so many cells and its quotes are in order.

        Otherwise its first quote is the damage, and nothing is skipped.
        """
        first = self.taken[0]
        here = self._file.tell()
        self._file.seek(first.start)
        data = self._file.read(_LONGEST_SEARCH)
        length = _length_of_row(data, cells, whole=len(data) < _LONGEST_SEARCH)
        if not length:
            self._file.seek(here)
            return False
        lines = data.count(b"\n", 0, length)
        self._file.seek(first.start + length)
        self._source = limited_lines(self._file, ROW_LIMIT, first.number + lines)
        self._given_back.clear()
        return True


def _length_of_row(data: bytes, cells: int, whole: bool) -> int:
    """The bytes of the row that ``data`` begins with; 0 if it is none of so many cells.

    :param whole: nothing follows in the file. A byte of ASCII is never part of another character, be it UTF-8 or, for
        these marks, GB18030.
    """
    end = 0
    for number in range(1, cells + 1):
        found = _CELL.match(data, end)
        if found is None:
            return 0
        end = found.end()
        if found[1] != b",":
            return end if number == cells and (found[1] or whole) else 0
    return 0


@dataclass(slots=True)
class _Failure:
    """A broken record; ``last`` is the last line it had swallowed, ``end`` the last that is taken for its own."""

    first: int
    end: int
    last: int
    error: RowError
    excerpt: str

    def reject(self, path: Path) -> Reject:
        if self.end > self.first:
            self.error.detail += f"; lines {self.first} to {self.end}"
        return self.error.reject(path, f"line {self.first}", self.excerpt)


def read_csv(path: Path, file: IO[bytes], encoding: Encoding) -> Iterator[Row | Reject]:
    """Yield the rows of a CSV file with a header; empty cells are left out, blank lines skipped.

    A broken quote may swallow the lines after it. Then the first line is given up and reading goes on at the
    next: lines that the broken record had swallowed are rows again when they have as many cells as the header,
    and otherwise belong to the same reject, whose detail names the lines. What stood before is never touched.

    :raises UnreadableFileError: if the first line is no CSV header, or its line ends are CR alone.
    """
    # The default of 128 KB is less than our own limit; a field is at most as long as its row.
    csv.field_size_limit(ROW_LIMIT)
    lines = _Lines(file, encoding)
    reader = csv.reader(lines, strict=True)
    header = _read_header(path, reader, lines)
    failure: _Failure | None = None
    while True:
        lines.begin_record()
        error: RowError | None = None
        cells: list[str] = []
        skipped = False
        try:
            cells = next(reader)
        except StopIteration:
            break
        except _TooLargeError:
            error = RowError("row too large", f"more than {ROW_LIMIT} bytes")
            skipped = len(lines.taken) > 1 and lines.skip_large_row(len(header))
        except csv.Error as problem:
            error = RowError("broken quotes", str(problem))
        if not error and not any(map(str.strip, cells)):
            continue
        first, last = lines.taken[0], lines.taken[-1]
        if error:
            if len(lines.taken) > 1 and not skipped:
                error = RowError("broken quotes", error.detail)
                lines.give_back_all_but_first()
        elif len(cells) < len(header) or any(cells[len(header) :]):
            error = RowError("wrong number of cells", f"{len(cells)} instead of {len(header)}")
        elif failure and first.number <= failure.last + 1 and _has_odd_quotes(lines.taken):
            error = RowError("broken quotes", "the rest of a broken row")
            failure.last = max(failure.last, last.number)
        if error and failure and first.number <= failure.last:
            failure.end = max(failure.end, first.number if error.reason == "broken quotes" else last.number)
            continue
        if failure:
            yield failure.reject(path)
            failure = None
        if not error:
            yield _row(path, f"line {first.number}", header, cells)
        elif error.reason == "broken quotes":
            failure = _Failure(first.number, first.number, last.number, error, first.text)
        else:
            yield error.reject(path, f"line {first.number}", first.text)
    if failure:
        yield failure.reject(path)


def _has_odd_quotes(lines: list[_Line]) -> bool:
    return sum(line.text.count('"') for line in lines) % 2 == 1


def _read_header(path: Path, reader: Iterator[list[str]], lines: _Lines) -> list[str]:
    header: list[str] = []
    try:
        while not any(header):
            header = [writable(name.strip()) for name in next(reader)]
    except StopIteration:
        return []
    except (csv.Error, _TooLargeError) as error:
        first = lines.taken[-1].text.rstrip("\r\n")
        reason = "its lines end in CR alone; save it with LF or CR LF" if "\r" in first else "no CSV header"
        raise UnreadableFileError(path, reason) from error
    return header


def _row(path: Path, position: str, header: list[str], cells: list[str]) -> Row | Reject:
    data: dict[str, Any] = {}
    for name, cell in zip(header, cells, strict=False):
        if has_undecoded_bytes(cell):
            return RowError("not UTF-8", f"in {name}").reject(path, position, ",".join(cells))
        if cell:
            data[name] = _value(name, cell)
    return Row(position, data)


def _value(name: str, cell: str) -> Any:
    if name in _LIST_COLUMNS and cell.startswith("["):
        try:
            return orjson.loads(cell)
        except orjson.JSONDecodeError:
            return cell  # the format's own check of the field says that it is no list
    return cell
