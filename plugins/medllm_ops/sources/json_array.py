"""Objects of a JSON array, one after the other, in bounded memory, going on after a broken one."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import orjson

from medllm_ops.records import EXCERPT_CHARACTERS, Reject
from medllm_ops.sources.raw_text import Encoding, has_undecoded_bytes
from medllm_ops.sources.row import ROW_LIMIT, Row, RowError
from medllm_ops.sources.row_shape import RowShape, begins_turn

_BLOCK = 4 << 20
_BETWEEN = re.compile(r"[\s,\ufeff]*")
_DELIMITER = re.compile(r"\s*(?:[,\]]|\Z)")
_DECODER = json.JSONDecoder()


class _Window:
    """The part of the text around ``position``; what lies behind is let go."""

    def __init__(self, file: IO[bytes], encoding: Encoding) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")
        self.text = ""
        self.position = 0
        self.ended = False

    def fill(self) -> None:
        """Hold more than one row of the greatest allowed size ahead of ``position``, or the rest of the file."""
        while not self.ended and len(self.text) - self.position <= ROW_LIMIT:
            block = self._file.read(_BLOCK)
            self.ended = not block
            self.text = self.text[self.position :] + self._decoder.decode(block, final=self.ended)
            self.position = 0

    def find(self, shape: RowShape) -> bool:
        """Move to the next beginning of a row; without one, to the end of the file."""
        while True:
            self.fill()
            for start in shape.starts(self.text, self.position):
                self.position = start
                return True
            if self.ended:
                self.position = len(self.text)
                return False
            # A row may begin there and end in what is not held yet.
            self.position = len(self.text) - ROW_LIMIT

    def skip_between(self) -> str:
        """Move past white space and commas and return the character there, ``""`` at the end of the file."""
        while True:
            self.fill()
            between = _BETWEEN.match(self.text, self.position)
            self.position = between.end() if between else self.position
            if self.position < len(self.text):
                return self.text[self.position]
            if self.ended:
                return ""


def read_json_array(path: Path, file: IO[bytes], encoding: Encoding) -> Iterator[Row | Reject]:
    """Yield the objects of an array, or objects that follow one another, each over any number of lines.

    After a broken object reading goes on at the next text that begins as the good ones do (``{"first key":``)
    or is a whole object with their usual keys; what stands between belongs to the same reject.
    """
    window = _Window(file, encoding)
    shape = RowShape()
    number = 0
    in_array = window.skip_between() == "["
    window.position += in_array
    closed = not in_array
    while character := window.skip_between():
        if character == "]" and not closed:
            closed = True
            window.position += 1
            continue
        number += 1
        excerpt = window.text[window.position : window.position + EXCERPT_CHARACTERS]
        try:
            row = _next_row(window, character)
        except RowError as error:
            yield error.reject(path, f"row {number}", excerpt)
        except (json.JSONDecodeError, RecursionError) as error:
            too_large = _is_too_large(error, window)
            window.position += 1
            found = window.find(shape)
            whole = found or window.text.rstrip().endswith("]" if in_array else "}")
            reason = "row too large" if too_large else "not JSON" if whole else "file cut off"
            closed = closed or not found  # one reject says it
            yield RowError(reason, _describe(error)).reject(path, f"row {number}", excerpt)
        else:
            shape.add(row)
            yield Row(f"row {number}", row)
    if not closed:
        yield RowError("file cut off", "the array is not closed").reject(path, f"after row {number}", "")


def _next_row(window: _Window, character: str) -> dict[str, Any]:
    """Read the value at the position and move past it.

    :raises RowError: if it is whole, but no row; the position is past it.
    :raises json.JSONDecodeError: if no whole value begins there; the position is where it was.
    """
    start = window.position
    if character == "[" or begins_turn(window.text, start):
        # Whatever is in a list, it is no row; objects in it may be rows whose bracket was doubled.
        raise json.JSONDecodeError("no object of its own", window.text, start)
    _, end = _DECODER.raw_decode(window.text, start)
    if character != "{" and not _DELIMITER.match(window.text, end):
        raise json.JSONDecodeError("no object begins here", window.text, start)
    window.position = end
    if end - start > ROW_LIMIT:
        raise RowError("row too large", f"more than {ROW_LIMIT} bytes")
    return _parse_object(window.text[start:end])


def _parse_object(text: str) -> dict[str, Any]:
    if has_undecoded_bytes(text):
        raise RowError("not UTF-8")
    try:
        value = orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError) as error:
        # Stricter than the scanner: NaN, a lone surrogate, a number beyond 64 bits.
        raise RowError("not JSON", str(error)) from error
    if not isinstance(value, dict):
        raise RowError("not an object", type(value).__name__)
    return value


def _is_too_large(error: json.JSONDecodeError | RecursionError, window: _Window) -> bool:
    if isinstance(error, RecursionError) or window.ended:
        return False
    # The window is longer than a row may be: a row that does not end in it is too large.
    return error.msg.startswith("Unterminated string") or error.pos - window.position > ROW_LIMIT


def _describe(error: json.JSONDecodeError | RecursionError) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else error.msg
