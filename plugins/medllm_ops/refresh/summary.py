"""What a refresh says of itself: its progress, and in the end what each raw file did."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from medllm_ops.corpus.writer import Applied
from medllm_ops.fetch.base import time_left

log = logging.getLogger(__name__)

_ALWAYS_SAID = {"added": "new", "changed": "changed", "deleted": "deleted", "retracted": "retracted"}


@dataclass(slots=True)
class Refreshed:
    """What a refresh did: a line for each raw file, and the sums of them."""

    source: str
    files: list[Applied] = field(default_factory=list)
    bytes: int = 0
    seconds: float = 0.0

    def summary(self) -> dict[str, Any]:
        """Small JSON: files, items in, events (added, changed, deleted, …), rejects, drops by reason, version."""
        dropped: Counter[str] = Counter()
        for applied in self.files:
            dropped += applied.ledger.dropped
        return {
            "source": self.source,
            "files": len(self.files),
            "in": sum(applied.ledger.rows_in for applied in self.files),
            "events": dict(sorted(self._events().items())),
            "rejected": self._rejected(),
            "dropped": dict(sorted(dropped.items())),
            "version": self.files[-1].version if self.files else None,
            "seconds": round(self.seconds, 1),
        }

    def lines(self) -> Iterator[str]:
        """The summary for people: what each raw file did, then all of them, then why items brought nothing."""
        for applied in self.files:
            yield f"{applied.name}: {_counted(applied.events, applied.rejects)}"
        if len(self.files) > 1:
            yield f"in all: {_counted(self._events(), self._rejected())}"
        for reason, count in self.summary()["dropped"].items():
            yield f"{count:,} × {reason}"

    def _events(self) -> Counter[str]:
        return sum((applied.events for applied in self.files), Counter())

    def _rejected(self) -> int:
        return sum(applied.rejects for applied in self.files)


def _counted(events: Mapping[str, int], rejected: int) -> str:
    """What happened to how many records; what always matters is said even of none."""
    said = [f"{events.get(event, 0):,} {word}" for event, word in _ALWAYS_SAID.items()]
    rest = [f"{count:,} {event}" for event, count in sorted(events.items()) if event not in _ALWAYS_SAID]
    return ", ".join([*said, f"{rejected:,} rejected", *rest])


def log_summary(refreshed: Refreshed) -> None:
    """Write the summary into the log."""
    for line in refreshed.lines():
        log.info("%s", line)


def log_progress(refreshed: Refreshed, left: int | None, max_files: int) -> None:
    """Write into the log what the last file did, how fast it goes, and how long it takes yet if that can be known.

    :param left: how many raw files are still to come; None: nobody knows.
    """
    number, applied = len(refreshed.files), refreshed.files[-1]
    seconds, records = refreshed.seconds, sum(one.ledger.rows_in for one in refreshed.files)
    told = ""
    if left is not None:
        left = min(left, max_files - number) if max_files else left
        told = f" of {number + left}; about {time_left(seconds, number, left)} left"
    log.info(
        "%s: %d in, %s; corpus version %d; %.1f MB/s and %.0f records/s so far; file %d%s",
        applied.name,
        applied.ledger.rows_in,
        _counted(applied.events, applied.rejects),
        applied.version,
        refreshed.bytes / 1e6 / max(seconds, 1e-3),
        records / max(seconds, 1e-3),
        number,
        told,
    )
