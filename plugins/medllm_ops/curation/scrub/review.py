"""A seeded sample of the replacements for a person to look at: the same for any order of rows and any workers."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from medllm_ops.curation.scrub.finding import Kind
from medllm_ops.curation.scrub.step import Finding
from medllm_ops.files import text_hash


class ReviewSample:
    """Keeps, of each kind, the findings with the lowest hash of seed, record and place.

    Each worker fills one; :meth:`merge` brings them together.

    :param per_kind: how many findings of each kind are kept.
    """

    def __init__(self, seed: int, per_kind: int = 20) -> None:
        self._seed = seed
        self._per_kind = per_kind
        self._kept: dict[Kind, list[tuple[int, int, Finding]]] = {}

    def add(self, findings: Iterable[Finding]) -> None:
        """Consider the findings of one record, in their order."""
        for place, finding in enumerate(findings):
            # A heap has its smallest on top, and what goes first here is the largest hash.
            rank = -int(text_hash(f"review:{self._seed}:{finding.id}:{place}"), 16)
            self._keep(rank, place, finding)

    def merge(self, other: ReviewSample) -> None:
        """Take in what another sample of the same seed kept."""
        for kept in other._kept.values():
            for rank, place, finding in kept:
                self._keep(rank, place, finding)

    def rows(self) -> Iterator[dict[str, Any]]:
        """The lines of a review file: ``id``, ``field``, ``kind``, ``rule``, ``shape``, ``context``, by kind."""
        for kind in sorted(self._kept):
            for _, _, finding in sorted(self._kept[kind], key=lambda entry: -entry[0]):
                yield asdict(finding)

    def _keep(self, rank: int, place: int, finding: Finding) -> None:
        kept = self._kept.setdefault(finding.kind, [])
        if len(kept) < self._per_kind:
            heapq.heappush(kept, (rank, place, finding))
        elif kept and rank > kept[0][0]:
            heapq.heapreplace(kept, (rank, place, finding))
