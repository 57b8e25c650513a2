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

_BLOCK = 4 << 20
_BETWEEN = re.compile(r"[\s,]*")
_FIRST_KEY = re.compile(r'\{\s*"([^"\\]{1,100})"\s*:')
_LONGEST_MARK = 1_000


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

    def find(self, pattern: re.Pattern[str]) -> bool:
        """Move to the next match of ``pattern``; without one, to the end of the file."""
        while True:
            self.fill()
            if found := pattern.search(self.text, self.position):
                self.position = found.start()
                return True
            if self.ended:
                self.position = len(self.text)
                return False
            # A match may begin at the very end of what is held.
            self.position = max(self.position + 1, len(self.text) - _LONGEST_MARK)

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

    After a broken object reading goes on at the next text that begins as the good ones do (``{"first key":``).
    """
    window = _Window(file, encoding)
    decoder = json.JSONDecoder()
    first_keys: set[str] = set()
    in_array = closed = False
    number = 0
    if window.skip_between() == "[":
        in_array = True
        window.position += 1
    while character := window.skip_between():
        if character == "]" and in_array and not closed:
            closed = True
            window.position += 1
            continue
        number += 1
        start = window.position
        excerpt = window.text[start : start + EXCERPT_CHARACTERS]
        try:
            _, end = decoder.raw_decode(window.text, start)
            if end - start > ROW_LIMIT:
                raise RowError("row too large", f"more than {ROW_LIMIT} bytes")
            row = _parse_object(window.text[start:end])
            window.position = end
        except RowError as error:
            window.position = end
            yield error.reject(path, f"row {number}", excerpt)
        except (json.JSONDecodeError, RecursionError) as error:
            too_large = _is_too_large(error, window)
            window.position += 1
            found = window.find(_mark(first_keys, excerpt))
            whole = found or window.text.rstrip().endswith("]" if in_array else "}")
            reason = "row too large" if too_large else "not JSON" if whole else "file cut off"
            closed = closed or not found  # one reject says it
            yield RowError(reason, _describe(error)).reject(path, f"row {number}", excerpt)
        else:
            first_keys.update(list(row)[:1])
            yield Row(f"row {number}", row)
    if in_array and not closed:
        yield RowError("file cut off", "the array is not closed").reject(path, f"after row {number}", "")


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


def _mark(first_keys: set[str], beginning: str) -> re.Pattern[str]:
    keys = set(first_keys)
    if not keys and (own := _FIRST_KEY.match(beginning)):
        keys.add(own.group(1))
    if not keys:
        return _FIRST_KEY
    return re.compile(r'\{\s*"(?:' + "|".join(map(re.escape, sorted(keys))) + r')"\s*:')


def _is_too_large(error: json.JSONDecodeError | RecursionError, window: _Window) -> bool:
    if isinstance(error, RecursionError) or window.ended:
        return False
    # The window is longer than a row may be: a row that does not end in it is too large.
    return error.msg.startswith("Unterminated string") or error.pos - window.position > ROW_LIMIT


def _describe(error: json.JSONDecodeError | RecursionError) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else error.msg
