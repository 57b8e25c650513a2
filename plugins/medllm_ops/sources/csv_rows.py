"""Rows of CSV with quoted newlines, going on after a broken quote."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from medllm_ops.errors import UnreadableFileError
from medllm_ops.records import Reject
from medllm_ops.sources.raw_text import Encoding, has_undecoded_bytes, limited_lines
from medllm_ops.sources.row import ROW_LIMIT, Row, RowError

# Columns that hold lists in the JSON form of the same formats; in CSV they are written as JSON.
_LIST_COLUMNS = frozenset({"history", "messages", "conversations", "conversation"})


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    text: str
    too_long: bool


class _TooLargeError(Exception):
    """The record that the reader is in has grown beyond the limit."""


class _Lines(Iterator[str]):
    """The physical lines for ``csv.reader``; those of a failed record can be given back."""

    def __init__(self, file: IO[bytes], encoding: Encoding) -> None:
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
        number, line, too_long = next(self._source)
        return _Line(number, line.decode(self._encoding, "surrogateescape"), too_long)

    def begin_record(self) -> None:
        self.taken = []
        self._size = 0

    def give_back_all_but_first(self) -> None:
        self._given_back.extendleft(reversed(self.taken[1:]))


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

    :raises UnreadableFileError: if the first line is no CSV header.
    """
    # The default of 128 KB is less than our own limit; a field is at most as long as its row.
    csv.field_size_limit(ROW_LIMIT)
    lines = _Lines(file, encoding)
    reader = csv.reader(lines, strict=True)
    header = _read_header(path, reader)
    failure: _Failure | None = None
    while True:
        lines.begin_record()
        error: RowError | None = None
        cells: list[str] = []
        try:
            cells = next(reader)
        except StopIteration:
            break
        except _TooLargeError:
            error = RowError("row too large", f"more than {ROW_LIMIT} bytes")
        except csv.Error as problem:
            error = RowError("broken quotes", str(problem))
        if not error and not any(map(str.strip, cells)):
            continue
        first, last = lines.taken[0], lines.taken[-1]
        if error:
            if len(lines.taken) > 1:
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


def _read_header(path: Path, reader: Iterator[list[str]]) -> list[str]:
    header: list[str] = []
    try:
        while not any(header):
            header = [name.strip() for name in next(reader)]
    except StopIteration:
        return []
    except (csv.Error, _TooLargeError) as error:
        raise UnreadableFileError(path, "the first line is no CSV header") from error
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
