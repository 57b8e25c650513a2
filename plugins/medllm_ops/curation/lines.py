"""From a line of a file to a row, or to the reason why it is none; and from a row to the line that is exported."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

EMPTY_LINE: Final = "empty line"
NOT_JSON: Final = "not JSON"
NO_RECORD: Final = "not a record"
NO_FILE_NAME: Final = "a source that cannot name a file"

EXTRA_FIELD: Final = "unknown field left out"
"""The mark of a field, of a row or of a turn, that no step knows."""

MOST_NAME_BYTES: Final = 200

_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# "." at the beginning hides a file, "-" makes an option of it, "#" begins a count in ms-swift's NAME#N.
_NAME: Final = re.compile(r"\w[\w.+-]*")
_TEXTS: Final = ("language", "title", "url", "licence")
_TURN: Final = frozenset(("role", "content"))
_ROW: Final = frozenset(("id", "messages", "rejected_response", "source", *_TEXTS, "version", "retracted"))
_MOST_VERSION: Final = 2**63 - 1
_MARK_OF_ORDER: Final = b"\xef\xbb\xbf"


class Fault(NamedTuple):
    """Why a line is no record."""

    reason: str
    detail: str = ""


def read_line(line: bytes, marks: Counter[str]) -> tuple[dict[str, Any], Fault | None]:
    """The row of a line, complete and in the order of its fields; or what could be read of it, and the fault.

    A row needs an ``id``, a ``source`` and ``messages``. Other fields may be missing or null; fields that nobody
    knows are left out, which is counted in ``marks``.

    :return: of a faulty line, only the ``id``, the ``source`` and the ``language`` that are sound.
    """
    line = line.strip().removeprefix(_MARK_OF_ORDER)
    if not line:
        return {}, Fault(EMPTY_LINE)
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return {}, Fault(NOT_JSON, str(error))
    if not isinstance(row, dict):
        return {}, Fault(NO_RECORD, f"a {type(row).__name__}")
    fault = _fault(row)
    if fault:
        sound = {name: row[name] for name in ("id", "source", "language") if isinstance(row.get(name), str)}
        if "id" in sound and not is_id(sound["id"]):
            del sound["id"]
        if "source" in sound and not is_file_name(sound["source"]):
            del sound["source"]
        return sound, fault
    return _in_order(row, marks), None


def _fault(row: dict[str, Any]) -> Fault | None:
    if not isinstance(row.get("id"), str) or not is_id(row["id"]):
        return Fault(NO_RECORD, "it has no id, or one that is no text, or empty, or with control characters")
    if not isinstance(row.get("source"), str):
        return Fault(NO_RECORD, "it has no source, or one that is no text")
    if not is_file_name(row["source"]):
        return Fault(NO_FILE_NAME, f"the source {row['source'][:80]!r}")
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        return Fault(NO_RECORD, "it has no list of messages")
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, dict):
            return Fault(NO_RECORD, f"message {number} is a {type(message).__name__}")
        if not isinstance(message.get("role"), str) or not isinstance(message.get("content"), str):
            return Fault(NO_RECORD, f"message {number} has no role or no content, or one that is no text")
    for name in (*_TEXTS, "rejected_response"):
        if not isinstance(row.get(name) or "", str):
            return Fault(NO_RECORD, f"its {name} is no text")
    version = 1 if row.get("version") is None else row["version"]
    if not isinstance(version, int) or isinstance(version, bool) or not -_MOST_VERSION <= version <= _MOST_VERSION:
        return Fault(NO_RECORD, "its version is no number that counts")
    if not isinstance(row.get("retracted") or False, bool):
        return Fault(NO_RECORD, "its retracted is neither true nor false")
    return None


def is_id(text: str) -> bool:
    """Whether a text is an id: not empty, and one line."""
    return bool(text.strip()) and not _CONTROL.search(text)


def is_file_name(name: str) -> bool:
    """Whether the name of a source may name its files: letters, digits, ``_``, and inside also ``.``, ``+``, ``-``."""
    return _NAME.fullmatch(name) is not None and len(name.encode()) <= MOST_NAME_BYTES


def _in_order(row: dict[str, Any], marks: Counter[str]) -> dict[str, Any]:
    extra = row.keys() - _ROW
    ordered = {"id": row["id"], "messages": row["messages"]}
    if any(message.keys() != _TURN for message in row["messages"]):
        ordered["messages"] = [{"role": turn["role"], "content": turn["content"]} for turn in row["messages"]]
        extra |= {name for turn in row["messages"] for name in turn.keys() - _TURN}
    if row.get("rejected_response") is not None:
        ordered["rejected_response"] = row["rejected_response"]
    ordered["source"] = row["source"]
    for name in _TEXTS:
        ordered[name] = row.get(name) or ""
    ordered["version"] = 1 if row.get("version") is None else row["version"]
    ordered["retracted"] = bool(row.get("retracted"))
    if extra:
        marks[EXTRA_FIELD] += 1
    return ordered


def write_line(row: dict[str, Any]) -> tuple[bytes, int]:
    """The line of a row, and how many bytes of it, with a ``}`` after them, are the line that is exported."""
    exported = {name: row[name] for name in ("id", "messages", "rejected_response") if name in row}
    rest = {name: row[name] for name in ("source", *_TEXTS, "version", "retracted")}
    head = orjson.dumps(exported)[:-1]
    return b"".join((head, b",", orjson.dumps(rest)[1:], b"\n")), len(head)


def characters_of(row: Mapping[str, Any]) -> int:
    """The characters of all turns."""
    return sum(len(message["content"]) for message in row["messages"])
