"""What of a query's answer has come: windows of days of entry, cut into slices that E-utilities give out whole."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

LIMIT = 9_999
"""A search that finds so many records or more is not given out whole."""

MAX_PMID = 99_999_999
GROWING_DAYS = 2
"""So many days before today may still grow: NLM's day ends later than UTC's."""

_DAY = datetime.timedelta(days=1)
Place: TypeAlias = tuple[datetime.date, int]


@dataclass(frozen=True, slots=True)
class Slice:
    """Days of entry, the last one included; of a single day perhaps only a range of PMIDs."""

    begin: datetime.date
    end: datetime.date
    low: int = 0
    high: int = MAX_PMID

    def __str__(self) -> str:
        pmids = f", PMIDs {self.low} to {self.high}" if self._is_range else ""
        return f"{self.begin} to {self.end}{pmids}"

    @property
    def _is_range(self) -> bool:
        return (self.low, self.high) != (0, MAX_PMID)

    @property
    def first(self) -> Place:
        """Where it begins."""
        return self.begin, self.low

    @property
    def last(self) -> Place:
        """Where it ends, that place included."""
        return self.end, self.high

    @property
    def after(self) -> Place:
        """The first place behind it."""
        return (self.end, self.high + 1) if self.high < MAX_PMID else (self.end + _DAY, 0)

    def halves(self) -> tuple[Slice, ...]:
        """Two slices instead of this one; none if it is one PMID of one day."""
        if self.begin < self.end:
            middle = self.begin + (self.end - self.begin) // 2
            return Slice(self.begin, middle), Slice(middle + _DAY, self.end)
        if self.low < self.high:
            between = (self.low + self.high) // 2
            return Slice(self.begin, self.end, self.low, between), Slice(self.begin, self.end, between + 1, self.high)
        return ()

    def term(self, query: str) -> str:
        """The query, with the range of PMIDs if there is one."""
        return f"({query}) AND {self.low}:{self.high}[UID]" if self._is_range else query


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The days that are read in one go, and how far that went; a query's state in the watermark.

    ``since`` is where the first window of the query began (ISO, or empty for the beginning); ``begin`` and ``until``
    are this window's days. Those from ``grows_from`` on were not over when the window was opened; ``newest_count``
    is what was found in them. ``slice`` was read last, of ``count`` records; ``page`` is its next page, 0 after its
    last one. Pages are those of ``page_size``. ``done``: all slices are read.
    """

    since: str
    begin: datetime.date
    until: datetime.date
    grows_from: datetime.date
    newest_count: int = 0
    slice: Slice | None = None
    count: int = 0
    page: int = 0
    page_size: int = 0
    done: bool = False

    @property
    def first(self) -> Place:
        """Where it begins."""
        return self.begin, 0

    @property
    def newest(self) -> Slice | None:
        """The days that may still grow; none if all were over."""
        return Slice(self.grows_from, self.until) if self.grows_from <= self.until else None

    @property
    def parts(self) -> tuple[Slice, ...]:
        """Its days in two parts: those that were over, and the newest."""
        over = (Slice(self.begin, self.grows_from - _DAY),) if self.begin < self.grows_from else ()
        return (*over, self.newest) if self.newest else over

    def to_row(self, query: str) -> dict[str, Any]:
        """As JSON; the query is there for people."""
        part = self.slice
        return {
            "query": query,
            "since": self.since,
            "begin": self.begin.isoformat(),
            "until": self.until.isoformat(),
            "grows_from": self.grows_from.isoformat(),
            "newest_count": self.newest_count,
            "slice": part and [part.begin.isoformat(), part.end.isoformat(), part.low, part.high],
            "count": self.count,
            "page": self.page,
            "page_size": self.page_size,
            "done": self.done,
        }

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> Window:
        """Read what :meth:`to_row` wrote."""
        day = datetime.date.fromisoformat
        begin, end, low, high = row["slice"]
        days: dict[str, Any] = {name: day(row[name]) for name in ("begin", "until", "grows_from")}
        days["slice"] = Slice(day(begin), day(end), low, high)
        return cls(**{name: days.get(name, row[name]) for name in cls.__slots__})


def new_window(since: str, begin: datetime.date, until: datetime.date, today: datetime.date) -> Window:
    """A window of which nothing is read yet."""
    grows_from = min(max(begin, today - GROWING_DAYS * _DAY), until + _DAY)
    return Window(since=since, begin=begin, until=until, grows_from=grows_from)
