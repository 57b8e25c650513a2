"""The studies of a ClinicalTrials.gov v2 JSON file: one study, a page of studies, or a list of them.

JSON that is whole is read as such. Broken JSON is cut where studies begin, so that a broken study costs itself only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import orjson

BROKEN = "broken JSON"
CUT_OFF = "file ends in the middle"
EMPTY = "empty file"
NOT_UTF8 = "not UTF-8"
NO_RECORDS = "no records in file"

_MEMBERS = {
    "protocolSection",
    "resultsSection",
    "annotationSection",
    "documentSection",
    "derivedSection",
    "hasResults",
}
# No object within a study begins with a member of a study.
_START = re.compile(rb'\{\s*"(?:%b)"\s*:' % "|".join(sorted(_MEMBERS)).encode())
_FIRST_KEY = re.compile(rb'[\s,}]*("\w+")\s*:')
_WRAPPER_KEYS = (b'"nextPageToken"', b'"totalCount"')
_BEFORE = re.compile(rb"\s*(?:\{[^{}\[\]]*\[|\[)?\s*")
_MORE = rb'\s*(?:,\s*"\w+"\s*:\s*(?:"[^"]*"|\d+)\s*)*'
# How a file ends behind its last study, by its first character.
_ENDS = {
    b"[": re.compile(rb"\s*\]\s*\Z"),
    b"{": re.compile(rb"\s*\]" + _MORE + rb"\}\s*\Z"),
    b"": re.compile(rb"\s*\Z"),
}
_ANY_END = re.compile(rb"(?:\s*\]" + _MORE + rb"\}?)?\s*\Z")
_SEPARATORS = b" \t\r\n,"
_NCT_ID = re.compile(rb'"nctId"\s*:\s*"(NCT\d{8})"')


class NotStudiesError(ValueError):
    """The file holds something else; the text is the reason, in lower case."""


@dataclass(frozen=True, slots=True)
class Study:
    """What stands in the place of a study, of any JSON type."""

    value: Any


@dataclass(frozen=True, slots=True)
class Broken:
    """A stretch of the file that could not be read, and a fixed phrase that says why."""

    reason: str
    data: bytes = b""
    detail: str = ""

    @property
    def nct_id(self) -> str | None:
        """The identifier of the study, where it can be seen."""
        found = _NCT_ID.search(self.data)
        return found[1].decode() if found else None


Found: TypeAlias = Study | Broken


def read_studies(data: bytes) -> Iterator[Found]:
    """Yield one item for each study of a file, in file order.

    :raises NotStudiesError: if there is no sign of a study in it.
    """
    data = data.removeprefix(b"\xef\xbb\xbf")
    if not data or data.isspace():
        yield Broken(EMPTY)
        return
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        yield from _split(data, error)
        return
    studies = _studies_of(value)
    if studies == [] and isinstance(value, dict):
        return  # a page of the API may be empty
    if studies is not None:
        yield from map(Study, studies) if studies else (Broken(NO_RECORDS),)
    elif _START.search(data):
        yield from _split(data, None)
    else:
        raise NotStudiesError("is not ClinicalTrials.gov v2 JSON: no protocolSection and no list of studies in it")


def _studies_of(value: Any) -> list[Any] | None:
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        if isinstance(value.get("studies"), list):
            return list(value["studies"])
        if "protocolSection" in value:
            return [value]
    return None


def _split(data: bytes, error: orjson.JSONDecodeError | None) -> Iterator[Found]:
    starts = [found.start() for found in _START.finditer(data)]
    if not starts:
        if data.lstrip()[:1] not in (b"{", b"["):
            raise NotStudiesError("is not JSON in UTF-8")
        yield Broken(CUT_OFF if _is_end(error) else BROKEN, data, error.msg if error else "")
        return
    before = data[: starts[0]]
    ends = _ENDS[before.lstrip()[:1]] if _BEFORE.fullmatch(before) else _ANY_END
    if ends is _ANY_END:
        yield Broken(BROKEN, before, "before the first study")
    for start, end in pairwise(starts):
        yield from _region(data[start:end])
    yield from _last_region(data[starts[-1] :], ends)


def _region(region: bytes) -> Iterator[Found]:
    study, rest, _ = _read_one(region)
    yield study
    if rest:
        yield Broken(BROKEN, rest, "between two studies")


def _last_region(region: bytes, ends: re.Pattern[bytes]) -> Iterator[Found]:
    end = ends.search(region)
    study, rest, ends_early = _read_one(region[: end.start()] if end else region)
    closed = end and end[0].strip()
    if isinstance(study, Broken) and ends_early and not closed:
        study = Broken(CUT_OFF, study.data, study.detail)
    yield study
    if isinstance(study, Broken):
        return
    if not end:
        yield Broken(CUT_OFF, rest, "the list of studies is not closed")
    elif rest:
        yield Broken(BROKEN, rest, "behind the last study")


def _read_one(region: bytes) -> tuple[Found, bytes, bool]:
    """Return what a region holds, what is left over of it, and whether it ended too early."""
    region = region.rstrip(_SEPARATORS)
    try:
        region.decode()
    except UnicodeDecodeError as error:
        study, rest, _ = _read_one(region[: error.start])
        if isinstance(study, Study):  # the bad byte is behind it
            return study, rest + region[error.start :], False
        early = error.end == len(region)
        return Broken(NOT_UTF8, region, f"byte {error.start} of the study: {error.reason}"), b"", early
    try:
        return Study(orjson.loads(region)), b"", False
    except orjson.JSONDecodeError as error:
        head, rest = error.doc[: error.pos].encode(), error.doc[error.pos :].encode().lstrip(_SEPARATORS)
        detail = f"{error.msg}, character {error.pos + 1} of the study"
        early = _is_end(error)
    key = _FIRST_KEY.match(rest)
    # What goes on with a key that the study does not have yet is its rest, and a brace too many came in between.
    if key is None or key[1] in head or key[1] in _WRAPPER_KEYS:
        with suppress(orjson.JSONDecodeError):
            value = orjson.loads(head)
            if isinstance(value, dict) and value.keys() <= _MEMBERS:
                return Study(value), rest, False
    return Broken(BROKEN, region, detail), b"", early


def _is_end(error: orjson.JSONDecodeError | None) -> bool:
    return error is not None and error.msg == "unexpected end of data"
