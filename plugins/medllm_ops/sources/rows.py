"""Rows of JSON lines, JSON arrays and CSV, read in bounded memory; a broken row costs one reject, never the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import IO, Any, TypeAlias

import orjson

from medllm_ops.fetch import dataset
from medllm_ops.records import EXCERPT_CHARACTERS, Record, Reject
from medllm_ops.sources.archives import open_raw
from medllm_ops.sources.base import Parsed, Source, Stage
from medllm_ops.sources.csv_rows import read_csv
from medllm_ops.sources.json_array import read_json_array
from medllm_ops.sources.raw_text import Encoding, find_encoding, limited_lines, text_of
from medllm_ops.sources.row import ROW_LIMIT, Row, RowError
from medllm_ops.sources.row_shape import RowShape
from medllm_ops.sources.text import as_json

FILE_PATTERNS = ("*.jsonl", "*.json", "*.txt", "*.csv")

RowData: TypeAlias = dict[str, Any]
Convert: TypeAlias = Callable[[RowData], Record]


def read_rows(path: Path) -> Iterator[Row | Reject]:
    """Yield the rows of a file in order, and a reject for each that is none.

    A name ending in ``.csv`` is read as CSV; anything else is JSON, one array or one object a line, whatever its
    name says. Text is UTF-8 or GB18030 (see :func:`~medllm_ops.sources.raw_text.find_encoding`). Positions are
    ``line N`` (where the row begins) in lines and CSV, ``row N`` in an array, both from 1.

    :raises UnreadableFileError: if the file cannot be opened, is UTF-16 or no text, or is CSV without a header.
    """
    with open_raw(path) as file:
        encoding = find_encoding(file, path)
        beginning = file.tell()
        seen = False
        for row in _reader(path, file, encoding):
            seen = True
            yield row
        if not seen:
            file.seek(beginning)
            reason = "no rows in file" if file.read(ROW_LIMIT).strip() else "empty file"
            yield Reject(file=str(path), position="line 1", reason=reason)


def _reader(path: Path, file: IO[bytes], encoding: Encoding) -> Iterator[Row | Reject]:
    if path.suffix.lower() == ".csv":
        return read_csv(path, file, encoding)
    if _is_array(path, file):
        return read_json_array(path, file, encoding)
    return _read_json_lines(path, file, encoding)


def _is_array(path: Path, file: IO[bytes]) -> bool:
    """Whether the objects must be told apart by their syntax, because they do not stand one a line."""
    beginning = file.tell()
    lines = (line.strip() for line in iter(partial(file.readline, ROW_LIMIT), b""))
    first, second = [*islice(filter(None, lines), 2), b"", b""][:2]
    file.seek(beginning)
    if first in (b"[", b"{"):  # as editors write it
        return True
    if _is_object(second):  # one object a line, be the first damaged
        return False
    return first.startswith(b"[") or (path.suffix.lower() == ".json" and not _is_object(first))


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(orjson.loads(line.decode("utf-8", "replace")), dict)
    except orjson.JSONDecodeError:
        return False


def _read_json_lines(path: Path, file: IO[bytes], encoding: Encoding) -> Iterator[Row | Reject]:
    shape = RowShape()
    for number, _, line, too_long in limited_lines(file, ROW_LIMIT):
        if not line.strip():
            continue
        position = f"line {number}"
        too_large = RowError("row too large", f"more than {ROW_LIMIT} bytes")
        for piece, row in [(line, too_large)] if too_long else _rows_of(line, encoding, shape):
            if isinstance(row, RowError):
                excerpt = piece[: 4 * EXCERPT_CHARACTERS].decode(encoding, "replace")[:EXCERPT_CHARACTERS]
                yield row.reject(path, position, excerpt)
            else:
                shape.add(row)
                yield Row(position, row)


def _rows_of(line: bytes, encoding: Encoding, shape: RowShape) -> list[tuple[bytes, RowData | RowError]]:
    """The row of a line; where line ends were lost, its pieces that begin as rows do, if one of them is one."""
    row = _parse_line(line, encoding)
    if not isinstance(row, RowError):
        return [(line, row)]
    text = line.decode(encoding, "surrogateescape").lstrip()
    starts = [0, *filter(None, shape.starts(text, 0))]
    *before, last = [
        text[start:end].encode(encoding, "surrogateescape") for start, end in pairwise([*starts, len(text)])
    ]
    pieces = [*(piece + b"\n" for piece in before), last]
    rows = [_parse_line(piece, encoding) for piece in pieces]
    return list(zip(pieces, rows, strict=True)) if any(isinstance(one, dict) for one in rows) else [(line, row)]


def _parse_line(line: bytes, encoding: Encoding) -> RowData | RowError:
    try:
        text = text_of(line, encoding)
    except UnicodeDecodeError as error:
        return RowError("file cut off" if error.end == len(line) else "not UTF-8", str(error))
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if not line.endswith(b"\n") and error.msg == "unexpected end of data":
            # The last line of the file, without its end: the writer was interrupted.
            return RowError("file cut off", str(error))
        return RowError("not JSON", str(error))
    return value if isinstance(value, dict) else RowError("not an object", type(value).__name__)


def parse_rows(path: Path, convert: Convert, identify: Callable[[RowData], str | None]) -> Iterator[Parsed]:
    """Read a file of rows and convert each; what ``convert`` refuses becomes a reject with its id, where known."""
    for row in read_rows(path):
        if isinstance(row, Reject):
            yield row
            continue
        try:
            record = convert(row.data)
        except RowError as error:
            yield error.reject(path, row.position, as_json(row.data).decode(), identify(row.data))
        else:
            yield record


def _without_id(_row: RowData) -> str | None:
    return None


def row_source(
    name: str,
    convert: Convert,
    recognises: Callable[[RowData], bool],
    *,
    precedence: int = 100,
    stage: Stage = "sft",
    identify: Callable[[RowData], str | None] = _without_id,
) -> Source:
    """A source whose files lie in ``sft`` and hold one row a record."""
    return Source(
        name=name,
        stage=stage,
        folder="sft",
        patterns=FILE_PATTERNS,
        parse=partial(parse_rows, convert=convert, identify=identify),
        recognises=recognises,
        precedence=precedence,
        fetch=dataset.fetch,
        settings=dataset.Settings,
    )
