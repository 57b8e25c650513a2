"""When a crawler saw a page last: a file of lines that only grows, and that may be lost without harm."""

from __future__ import annotations

import datetime
import json
import math
from pathlib import Path


class Visits:
    """The last visit of each page: the day, and the checksum of what was there.

    :param path: the file; a line that a killed crawl left half written does not count.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._visits: dict[str, tuple[datetime.date, str]] = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    name, day, checksum = json.loads(line)
                    self._visits[name] = datetime.date.fromisoformat(day), checksum
                except (ValueError, TypeError):
                    continue

    def record(self, name: str, checksum: str) -> None:
        """Write down what was there today."""
        today = _today()
        self._visits[name] = today, checksum
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            # The line begins with its newline, so that it never goes on in a half one.
            file.write("\n" + json.dumps([name, today.isoformat(), checksum]))

    def days_since(self, name: str, checksum: str) -> float:
        """The days since a page was seen with this checksum; infinite if it was not, or something else later."""
        day, seen = self._visits.get(name, (datetime.date.min, ""))
        return (_today() - day).days if seen == checksum else math.inf


def _today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()
