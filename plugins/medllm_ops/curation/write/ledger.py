"""What became of every input line: the ledger by step and source, ``removed.jsonl``, and the limits of both."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import xxhash

from medllm_ops.curation.decontaminate import REASON as OVERLAP
from medllm_ops.curation.settings import STEPS, DropLimits
from medllm_ops.curation.state.listing import Count, Removed
from medllm_ops.curation.state.state import CurationState
from medllm_ops.curation.write.listing import STEP_NUMBERS, DroppedRows, Listing, dropped_rows
from medllm_ops.errors import LedgerError
from medllm_ops.files import to_json_line
from medllm_ops.records import LedgerEntry

ONE_SIDE_EMPTY: Final = "set without rows on both sides"
NOT_SAMPLED: Final = "not in the sample"
SAMPLES: Final = 5
"""Rows of each step and reason that are kept to be looked at."""

_OF_STATE: Final = STEPS[: STEPS.index("split") + 1]
_REASONS: Final = {"decontaminate": OVERLAP, "split": ONE_SIDE_EMPTY, "sample": NOT_SAMPLED}


@dataclass(frozen=True, slots=True)
class Line:
    """A step of a source in the ledger."""

    source: str
    entry: LedgerEntry

    def to_row(self) -> dict[str, Any]:
        """The line of ``ledger.json``."""
        row = self.entry.check().to_row()
        return {"step": row.pop("step"), "source": self.source, **row}


def account(counts: Iterable[Count], listing: Listing) -> list[Line]:
    """The ledger: for each step each source, what goes out of one step comes into the next.

    :raises LedgerError: if the rows that are listed are not those that the state counts.
    """
    drops: dict[str, Counter[tuple[str, str]]] = {step: Counter() for step in STEPS}
    lines: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    for count in counts:
        lines[count.source] += count.lines
        if count.step:
            drops[count.step][count.source, count.reason] += count.lines
        else:
            kept[count.source] += count.lines
    for step, number in STEP_NUMBERS.items():
        numbers = (listing.dropped == number).nonzero()[0]
        for source, rows in listing.counts("source", numbers).items():
            drops[step][source, _REASONS.get(step, "")] += rows
    for number, (reason, _) in listing.reasons.items():
        step = STEPS[int(listing.dropped[number]) - 1]
        source = listing.names["source"][int(listing["source"][number])]
        drops[step][source, _REASONS.get(step, "")] -= 1
        drops[step][source, reason] += 1
    listed = Counter(listing.counts("source", slice(None)))
    if listed != kept:
        raise LedgerError(f"the state counts other rows than it lists: {dict(kept)} and {dict(listed)}")
    ledger = []
    for step in STEPS:
        for source in sorted(lines):
            dropped = Counter({reason: rows for (name, reason), rows in drops[step].items() if name == source and rows})
            entry = LedgerEntry(step, lines[source], lines[source] - dropped.total(), dropped)
            lines[source] = entry.rows_out
            ledger.append(Line(source, entry.check()))
    return ledger


def check_limits(ledger: Iterable[Line], limits: DropLimits) -> None:
    """Stop where a step dropped more than it may.

    :raises LedgerError: naming the step, its counts and its reasons.
    """
    entries: dict[str, LedgerEntry] = {}
    for line in ledger:
        entry = entries.setdefault(line.entry.step, LedgerEntry(line.entry.step))
        entry.rows_in += line.entry.rows_in
        entry.dropped.update(line.entry.dropped)
    for step, entry in entries.items():
        dropped, limit = entry.dropped.total(), limits.of(step)
        if dropped > limit * entry.rows_in:
            reasons = ", ".join(f"{reason}: {rows:,}" for reason, rows in entry.dropped.most_common())
            raise LedgerError(
                f"step {step} dropped {dropped:,} of {entry.rows_in:,} rows ({reasons}), more than the share of "
                f"{limit:g} that max_dropped_share.{step.replace(' ', '_')} allows: see why, or raise it"
            )


class LowestSamples:
    """The ids of a few rows of each step and reason: those with the lowest hashes."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._offered = 0
        self._kept: dict[tuple[str, str], list[tuple[int, int, Removed]]] = {}

    def offer(self, row: Removed) -> None:
        """Consider a row."""
        rank = -xxhash.xxh3_64_intdigest(row.id.encode(), self._seed)
        kept = self._kept.setdefault((row.step, row.reason), [])
        self._offered += 1
        if len(kept) < SAMPLES:
            heapq.heappush(kept, (rank, self._offered, row))
        elif rank > kept[0][0]:
            heapq.heapreplace(kept, (rank, self._offered, row))

    def rows(self) -> list[Removed]:
        """The rows, by step, reason and id."""
        rows = [row for kept in self._kept.values() for *_, row in kept]
        return sorted(rows, key=lambda row: (STEPS.index(row.step), row.reason, row.id))


def write_removed(
    path: Path, ledger: Iterable[Line], state: CurationState, listing: Listing, samples: LowestSamples
) -> int:
    """Write ``removed.jsonl``, a line for each input line that is not written, by step and id; return their number."""
    count = 0
    # Every question to the state reads it from end to end.
    steps = {line.entry.step for line in ledger if line.entry.dropped}
    dropped = dropped_rows(state, listing) if listing.dropped.any() else {}
    with path.open("wb") as file:
        for step in STEPS:
            of_state = state.removed(step) if step in _OF_STATE and step in steps else iter(())
            ours = _rows(step, listing, dropped[step]) if step in dropped else iter(())
            for row in heapq.merge(of_state, ours, key=attrgetter("id")):
                samples.offer(row)
                told: dict[str, Any] = {"id": row.id, "step": row.step, "reason": row.reason}
                if row.kept:
                    told["kept"] = row.kept
                if row.detail:
                    told["detail"] = row.detail
                told["source"] = row.source
                file.write(to_json_line(told) * row.lines)
                count += row.lines
    return count


def check_sum(ledger: Iterable[Line], removed: int, written: int) -> None:
    """Hold the counts against the files.

    :raises LedgerError: if lines are missing, or counted twice.
    """
    lines = sum(line.entry.rows_in for line in ledger if line.entry.step == STEPS[0])
    if lines != removed + written:
        raise LedgerError(f"of {lines} input lines, {written} are written and {removed} are listed as removed")


def _rows(step: str, listing: Listing, dropped: DroppedRows) -> Iterator[Removed]:
    names = listing.names["source"]
    sources = listing["source"][dropped.numbers].tolist()
    usual = (_REASONS.get(step, ""), "")
    for first in range(0, len(sources), 10_000):
        ids = dropped.ids.slice(first, 10_000).to_pylist()
        numbers = dropped.numbers[first : first + 10_000].tolist()
        for id_, number, source in zip(ids, numbers, sources[first:], strict=False):
            reason, detail = listing.reasons.get(number, usual)
            yield Removed(id_, names[source], step, reason, detail, "")
