"""What the rows of a file look like, by which the next one is found behind a broken one."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

# Turns of a dialogue are objects in a row: no row begins with their keys.
_TURN_KEYS = ("role", "content", "from", "value", "human", "assistant")
_OBJECT = re.compile(r'\{\s*"')
_ANY_ROW = re.compile(r'\{\s*"(?!(?:' + "|".join(_TURN_KEYS) + r')")[^"\\]{1,100}"\s*:')
_TURN = re.compile(r'\{\s*"(?:' + "|".join(_TURN_KEYS) + r')"')
# Objects of a damaged stretch that are looked into: in megabytes of them the time would grow with their square.
_TRIES = 1_000
_DECODER = json.JSONDecoder()


def begins_turn(text: str, position: int) -> bool:
    """Whether a turn of a dialogue, which is no row, begins at ``position``."""
    return _TURN.match(text, position) is not None


class RowShape:
    """Counts the keys of the rows so far; a key of one row only may be there by damage."""

    def __init__(self) -> None:
        self._first_keys: Counter[str] = Counter()
        self._keys: Counter[str] = Counter()
        self._rows = 0

    def add(self, row: dict[str, Any]) -> None:
        """Take a good row into account."""
        self._first_keys.update(list(row)[:1])
        self._keys.update(list(row))
        self._rows += 1

    def starts(self, text: str, position: int) -> Iterator[int]:
        """Where rows begin from ``position`` on: with the first key of others, or whole and with the usual keys."""
        first_keys = [re.escape(key) for key, rows in self._first_keys.items() if rows > 1]
        usual_keys = {key for key, rows in self._keys.items() if rows > 1 and 2 * rows > self._rows}
        beginning = re.compile(r'\{\s*"(?:' + "|".join(first_keys) + r')"\s*:') if first_keys else _ANY_ROW
        while True:
            found = beginning.search(text, position)
            stop = found.start() if found else len(text)
            if usual_keys:
                yield from (position + start for start in _objects_with(usual_keys, text[position:stop]))
            if not found:
                return
            yield stop
            position = stop + 1


def _objects_with(keys: set[str], text: str) -> Iterator[int]:
    for found in islice(_OBJECT.finditer(text), _TRIES):
        start = found.start()
        if begins_turn(text, start):
            continue
        with suppress(json.JSONDecodeError, RecursionError):
            value, _ = _DECODER.raw_decode(text, start)
            if isinstance(value, dict) and value.keys() >= keys:
                yield start
