"""A seeded sample of what was dropped, for a person to look at: the same for any order of rows and any workers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import xxhash

from medllm_ops.curation.shown import shown

PER_REASON: Final = 5
EXCERPT: Final = 300
"""Characters of an excerpt."""

# Personal data at the end of an excerpt are known by what stands after them, and half of them at the end of what is
# looked at by nothing: of a list of contacts, all that is looked at may come down to an excerpt, so that end goes.
_LOOKED_AT: Final = 2 * EXCERPT
_CUT_OFF: Final = EXCERPT // 2

Key: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True, order=True)
class _Kept:
    rank: bytes
    id: str
    source: str
    detail: str
    excerpt: str


class DroppedSamples:
    """Keeps, of each step and reason, the rows with the lowest hash of seed and content."""

    def __init__(self, seed: int) -> None:
        self._seed = seed.to_bytes(8)
        self._kept: dict[Key, list[_Kept]] = {}

    def offer(self, key: Key, digest: bytes, text: str, *, id: str, source: str, detail: str) -> None:  # noqa: A002
        """Consider a row; personal data are out of its excerpt whatever the settings of scrubbing say."""
        rank = xxhash.xxh3_128_digest(self._seed + digest)
        kept = self._kept.setdefault(key, [])
        if len(kept) < PER_REASON or rank <= kept[-1].rank:
            self._keep(key, _Kept(rank, id, source, detail, excerpt(text)))

    def merge(self, other: DroppedSamples) -> None:
        """Take in what another one of the same seed kept."""
        for key, kept in other._kept.items():
            for one in kept:
                self._keep(key, one)

    def rows(self) -> Iterator[dict[str, Any]]:
        """``step``, ``reason``, ``id``, ``source``, ``detail``, ``excerpt``, by step and reason."""
        for (step, reason), kept in sorted(self._kept.items()):
            for one in kept:
                yield {
                    "step": step,
                    "reason": reason,
                    "id": one.id,
                    "source": one.source,
                    "detail": one.detail,
                    "excerpt": one.excerpt,
                }

    def _keep(self, key: Key, one: _Kept) -> None:
        kept = self._kept.setdefault(key, [])
        self._kept[key] = sorted([*kept, one])[:PER_REASON]


def excerpt(text: str) -> str:
    """The beginning of a text, with marks in place of personal data."""
    scrubbed = shown(text[:_LOOKED_AT])
    if len(text) > _LOOKED_AT:
        scrubbed = f"{scrubbed[:-_CUT_OFF]}…"
    return scrubbed if len(scrubbed) <= EXCERPT else f"{scrubbed[: EXCERPT - 1]}…"
