"""The files of a dataset that are read as they are: manifest, ledger, what was removed, figures."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from medllm_ops.curation.segment import RETRACTED
from medllm_ops.curation.settings import STEPS
from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json, read_json_lines, text_hash
from medllm_ops.report.collect import pick
from medllm_ops.report.data.model import (
    SIDES,
    Cluster,
    Common,
    Decontamination,
    EvaluationSet,
    Languages,
    Lengths,
    Licences,
    Mark,
    Member,
    Overlap,
    Review,
    Sample,
    Side,
)
from medllm_ops.report.data.text import excerpt
from medllm_ops.report.rows import LedgerRow

SAMPLES: Final = 5

Taken = TypeVar("Taken")


class DatasetFiles:
    """A dataset's folder.

    :ivar incomplete: the files that should be there and are not; what they would tell is left out.
    :raises MedllmError: if it is none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.incomplete: list[str] = []
        if not (self.folder / "manifest.json").is_file():
            raise MedllmError(f"{folder} is no dataset: it has no manifest.json; name the folder that curate made")
        self.manifest: dict[str, Any] = self.take("manifest.json", lambda path: dict(read_json(path))) or {}
        self.sources: dict[str, dict[str, Any]] = self._checked("manifest.json", self._sources)

    def _sources(self) -> dict[str, dict[str, Any]]:
        sources: dict[str, dict[str, Any]] = {
            str(name): dict(figures) for name, figures in self.manifest["sources"].items()
        }
        for figures in sources.values():
            for side in SIDES:
                figures[side] = int(figures[side])
        return sources

    def take(self, name: str, how: Callable[[Path], Taken], needed: bool = True) -> Taken | None:
        """What ``how`` makes of a file, or None if it is not there.

        :param needed: whether the file's absence is to be told.
        :raises MedllmError: naming the file, if its content is not what curation writes.
        """
        path = self.folder / name
        if not path.is_file():
            self.incomplete += [name] if needed else []
            return None
        return self._checked(name, partial(how, path))

    def _checked(self, name: str, how: Callable[[], Taken]) -> Taken:
        try:
            return how()
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            reason = " ".join(str(error).split())
            path = self.folder / name
            raise MedllmError(f"{path} is not what curate writes ({reason}): make the dataset again") from error

    def file(self, side: Side, source: str) -> Path:
        """The rows of a source on one side."""
        return self.folder / side / f"{source}.jsonl"

    def hash_told(self, side: Side, source: str) -> str | None:
        """The hash of such a file, as the manifest has it."""
        told = self.sources[source].get("hashes", {}).get(side)
        return str(told) if told else None

    def ledger(self) -> list[LedgerRow]:
        """The steps of each source, as they stand in ``ledger.json``."""

        def read(path: Path) -> list[LedgerRow]:
            return [pick(LedgerRow, {**row, "rows_in": row["in"], "rows_out": row["out"]}) for row in read_json(path)]

        return self.take("ledger.json", read) or []

    def lengths(self) -> list[Lengths]:
        """The histograms of ``data/lengths.json``."""

        def read(path: Path) -> list[Lengths]:
            return [
                Lengths(source=source, side=side, begins=[begin for begin, _ in bins], rows=[rows for _, rows in bins])
                for source, sides in sorted(read_json(path).items())
                for side in SIDES
                if (bins := sorted((int(begin), int(rows)) for begin, rows in sides.get(side, {}).items()))
            ]

        return self.take("data/lengths.json", read) or []

    def languages(self) -> list[Languages]:
        """Rows by language, as the manifest counts them."""
        rows = {source: figures.get("languages", {}) for source, figures in sorted(self.sources.items())}
        return [Languages(source=source, side=None, rows=counts) for source, counts in rows.items() if counts]

    def licences(self) -> list[Licences]:
        """Rows by licence, as the manifest counts them."""
        rows = {source: figures.get("licences", {}) for source, figures in sorted(self.sources.items())}
        return [Licences(source=source, rows=counts) for source, counts in rows.items()]

    def marks(self) -> list[Mark]:
        """``data/marks.json``, the most frequent first."""

        def read(path: Path) -> list[Mark]:
            marks = [
                Mark(step=step, source=source, rule=rule, count=count)
                for step, sources in read_json(path).items()
                for source, rules in sources.items()
                for rule, count in rules.items()
            ]
            return sorted(marks, key=lambda mark: (step_order(mark.step), mark.source, -mark.count, mark.rule))

        return self.take("data/marks.json", read) or []

    def review(self) -> list[Review]:
        """``data/review.jsonl``."""
        return self.take("data/review.jsonl", lambda path: [pick(Review, row) for row in read_json_lines(path)]) or []

    def clusters(self) -> list[Cluster]:
        """``data/clusters.jsonl``, the largest first."""

        def read(path: Path) -> list[Cluster]:
            found = [Cluster(size=row["size"], members=list(_members(row))) for row in read_json_lines(path)]
            return sorted(found, key=lambda cluster: (-cluster.size, cluster.members[0].id if cluster.members else ""))

        return self.take("data/clusters.jsonl", read) or []

    def decontamination(self) -> Decontamination:
        """``data/decontamination.json`` and ``data/overlaps.jsonl``."""
        compared = bool(self.manifest.get("evalsets"))
        told = self.take("data/decontamination.json", lambda path: dict(read_json(path)), compared) or {}

        def read() -> Decontamination:
            return Decontamination(
                evalsets=[pick(EvaluationSet, row) for row in told.get("evalsets", [])],
                overlaps=self.take("data/overlaps.jsonl", lambda path: list(_overlaps(path)), compared) or [],
                common_ngrams=told.get("common_ngrams", 0),
                common=[pick(Common, row) for row in told.get("common", [])],
            )

        return self._checked("data/decontamination.json", read)

    def samples(self) -> dict[tuple[str, str], list[Sample]]:
        """``data/samples.jsonl`` by step and reason."""

        def read(path: Path) -> dict[tuple[str, str], list[Sample]]:
            found: dict[tuple[str, str], list[Sample]] = {}
            for row in read_json_lines(path):
                found.setdefault((row["step"], row["reason"]), []).append(_sample(row))
            return found

        return self.take("data/samples.jsonl", read) or {}

    def removed(self) -> Removed:
        """``removed.jsonl``, counted."""
        return self.take("removed.jsonl", _removed) or Removed()


@dataclass(slots=True)
class Removed:
    """The counts of ``removed.jsonl``: rows by step, source and reason, and some rows of each step and reason."""

    rows: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    samples: dict[tuple[str, str], list[Sample]] = field(default_factory=dict)
    retracted: list[str] = field(default_factory=list)


def _removed(path: Path) -> Removed:
    removed = Removed()
    lowest: dict[tuple[str, str], list[tuple[int, int, Sample]]] = {}
    for number, row in enumerate(read_json_lines(path)):
        key = (row["step"], row["reason"])
        source = row.get("source") or ""
        removed.rows[key[0], source, key[1]] += 1
        if row["reason"] == RETRACTED:
            removed.retracted.append(row["id"])
        heap = lowest.setdefault(key, [])
        # A heap has its smallest on top, and what goes first here is the largest hash.
        rank = -int(text_hash(f"report:{row['id']}"), 16)
        if len(heap) < SAMPLES or rank > heap[0][0]:
            entry = (rank, number, _sample(row))
            if len(heap) < SAMPLES:
                heapq.heappush(heap, entry)
            else:
                heapq.heapreplace(heap, entry)
    removed.samples = {key: [sample for *_, sample in sorted(heap, reverse=True)] for key, heap in lowest.items()}
    return removed


def _sample(row: Mapping[str, Any]) -> Sample:
    return Sample(
        id=row["id"],
        source=row.get("source") or "",
        excerpt=excerpt(row.get("excerpt") or ""),
        detail=row.get("detail") or "",
        kept=row.get("kept") or "",
    )


def step_order(step: str) -> tuple[int, str]:
    """Where a step stands among all; one that is not known comes last."""
    return (STEPS.index(step) if step in STEPS else len(STEPS), step)


def _members(row: Mapping[str, Any]) -> Iterator[Member]:
    columns = (row[name] for name in ("ids", "sources", "similarity", "excerpts"))
    for id_, source, similarity, text in zip(*columns, strict=True):
        yield Member(id=id_, source=source, excerpt=excerpt(text), kept=id_ == row["kept"], similarity=similarity)


def _overlaps(path: Path) -> Iterator[Overlap]:
    for row in read_json_lines(path):
        yield pick(Overlap, {**row, "item": str(row["item"])})
