"""The folder ``data`` of a dataset: what its report shows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import xxhash

from medllm_ops.curation.decontaminate import Judgement
from medllm_ops.curation.dropped_samples import excerpt
from medllm_ops.curation.segment import Marks, Segment
from medllm_ops.curation.state.listing import Removed, StateRow
from medllm_ops.curation.state.state import CurationState, find
from medllm_ops.curation.write.ledger import SAMPLES
from medllm_ops.curation.write.listing import Array, Listing
from medllm_ops.files import read_json_lines, text_hash, to_json_line, write_json, write_json_lines

CLUSTERS: Final = 20
MEMBERS: Final = 20
OVERLAPS: Final = 50
REVIEWED: Final = 20
"""Replacements of each kind to be looked at."""


def write_figures(
    folder: Path, state: CurationState, listing: Listing, judgement: Judgement, removed: Sequence[Removed], seed: int
) -> None:
    """Write all files; ``removed`` are samples of the rows that were left out since the segments were prepared."""
    folder.mkdir()
    segments = [Segment(path) for path in state.segments()]
    write_json(folder / "marks.json", _marks(segments))
    write_json_lines(folder / "review.jsonl", _review(segments, seed))
    write_json_lines(folder / "samples.jsonl", _samples(segments, state, removed, seed))
    write_json(folder / "lengths.json", _lengths(listing))
    write_json_lines(folder / "clusters.jsonl", _clusters(state))
    write_json(folder / "decontamination.json", judgement.report)
    write_json_lines(folder / "overlaps.jsonl", _overlaps(judgement, seed))


def _marks(segments: Iterable[Segment]) -> Marks:
    joined: defaultdict[str, defaultdict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for segment in segments:
        for step, sources in segment.marks.items():
            for source, counts in sources.items():
                joined[step][source].update(counts)
    return {
        step: {source: dict(sorted(counts.items())) for source, counts in sorted(sources.items())}
        for step, sources in sorted(joined.items())
    }


def _review(segments: Sequence[Segment], seed: int) -> Iterator[dict[str, Any]]:
    """Of each kind those with the lowest hashes, of all segments together."""
    by_kind: defaultdict[str, list[tuple[str, int, dict[str, Any]]]] = defaultdict(list)
    for segment in segments:
        for place, row in enumerate(read_json_lines(segment.review)):
            by_kind[row["kind"]].append((text_hash(f"{seed}:{to_json_line(row).decode()}"), place, row))
    for _, rows in sorted(by_kind.items()):
        yield from (row for *_, row in sorted(rows, key=lambda entry: entry[:2])[:REVIEWED])


def _samples(
    segments: Sequence[Segment], state: CurationState, removed: Sequence[Removed], seed: int
) -> Iterator[dict[str, Any]]:
    """``step, reason, id, source, detail, excerpt``; of the row-wise steps, as the segments have them."""
    by_reason: defaultdict[tuple[str, str], list[tuple[int, str, dict[str, Any]]]] = defaultdict(list)
    for segment in segments:
        for row in read_json_lines(segment.samples):
            rank = xxhash.xxh3_64_intdigest(str(row["id"]).encode(), seed)
            by_reason[row["step"], row["reason"]].append((rank, row["excerpt"], row))
    of_segments = list(by_reason)
    known = find(state.folder, [row.id for row in removed])
    for one in removed:
        key = (one.step, one.reason)
        if key not in of_segments:
            row = {"step": one.step, "reason": one.reason, "id": one.id, "source": one.source, "detail": one.detail}
            by_reason[key].append((0, one.id, {**row, "kept": one.kept, "excerpt": _excerpt(known.get(one.id))}))
    for _, rows in sorted(by_reason.items()):
        yield from (row for *_, row in sorted(rows, key=lambda entry: entry[:2])[:SAMPLES])


def _excerpt(row: StateRow | None) -> str:
    if row is None or not row.line:
        return ""
    return excerpt("\n".join(message["content"] for message in orjson.loads(row.line)["messages"]))


def _lengths(listing: Listing) -> dict[str, dict[str, dict[str, int]]]:
    """Rows by characters, from each power of two up to the next: source, side, first number, rows."""
    lengths: dict[str, dict[str, dict[str, int]]] = {}
    for source in listing.sources:
        numbers = listing.of(source)
        if len(numbers):
            val = listing["val"][numbers]
            lengths[source] = {
                side: _histogram(listing["characters"][numbers[chosen]])
                for side, chosen in (("train", ~val), ("val", val))
            }
    return lengths


def _histogram(characters: Array) -> dict[str, int]:
    # frexp gives the exponent above: 1 for 1, 2 for 2 and 3, 3 for 4 to 7; 0 for 0.
    counts = np.bincount(np.frexp(characters.astype(np.float64))[1]).tolist()
    return {str(1 << power >> 1): count for power, count in enumerate(counts) if count}


def _clusters(state: CurationState) -> Iterator[dict[str, Any]]:
    for cluster in state.sample_clusters(CLUSTERS):
        rows = [row for row in cluster if row.step != "gone"]
        rows.sort(key=lambda row: (row.id != row.kept, row.id))
        shown = rows[:MEMBERS]
        if len(rows) > 1:
            yield {
                "size": len(rows),
                "kept": shown[0].kept,
                "ids": [row.id for row in shown],
                "sources": [row.source for row in shown],
                "similarity": [round(row.similarity, 4) for row in shown],
                "excerpts": [_excerpt(row) for row in shown],
            }


def _overlaps(judgement: Judgement, seed: int) -> Iterator[dict[str, Any]]:
    ranked = sorted(judgement.removed, key=lambda row: (xxhash.xxh3_64_intdigest(row["id"].encode(), seed), row["id"]))
    for row in sorted(ranked[:OVERLAPS], key=lambda row: row["id"]):
        yield {name: row[name] for name in ("id", "source", "file", "item", "share", "overlap", "items")}
