"""What the duplicates of a segment say of its lines, in arrays of a few bytes a row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from medllm_ops.curation.duplicates.hashes import Bytes, as_bytes, numbered, whole
from medllm_ops.curation.duplicates.result import EXACT, KEPT, NEAR, REASONS, SAME_ID, STEPS, Duplicates
from medllm_ops.curation.state.segment import Index, Standing, give_back
from medllm_ops.curation.state.tables import BATCH
from medllm_ops.errors import MedllmError

KINDS: Final = (KEPT, EXACT, NEAR, "conflict", SAME_ID)
CONFLICT: Final = KINDS.index("conflict")
OUTCOMES: Final = (
    (None, None),
    (STEPS[EXACT], REASONS[EXACT]),
    (STEPS[NEAR], REASONS[NEAR]),
    ("split", "val_conflict"),
    (STEPS[SAME_ID], REASONS[SAME_ID]),
)
"""The step and the reason of each of :data:`KINDS`."""


@dataclass(slots=True)
class Verdicts:
    """The rows of the table of clusters, by their number there."""

    of_line: npt.NDArray[np.int32]
    """By line of the segment, the row; -1 for a line that did not go on, or was not looked at."""
    kind: npt.NDArray[np.uint8]
    """By row, its number among :data:`KINDS`."""
    source: npt.NDArray[np.int32]
    """By row, its number among ``sources``; -1 for a row from before."""
    sources: list[str]
    cluster: npt.NDArray[np.int32]
    """By row, its number among ``names``."""
    names: Bytes
    """Of the clusters, sorted."""
    clusters: pa.Array
    """As ``names``."""
    _path: Path
    _stands: pa.Array
    _similarity: pa.Array
    _number: npt.NDArray[np.int32]

    def ids(self, rows: npt.NDArray[np.bool_] | None = None) -> Iterator[tuple[list[int], list[str]]]:
        """The numbers and ids of rows, or of some of them, a number at a time; those with the id of another not."""
        first = 0
        for batch in pq.ParquetFile(self._path).iter_batches(batch_size=BATCH, columns=["id"]):
            end = first + batch.num_rows
            chosen = self.kind[first:end] != KINDS.index(SAME_ID)
            if rows is not None:
                chosen &= rows[first:end]
            yield (np.flatnonzero(chosen) + first).tolist(), batch.column(0).filter(pa.array(chosen)).to_pylist()
            first = end

    def values(self, rows: npt.NDArray[np.integer[Any]]) -> tuple[list[Any], ...]:
        """Of rows: cluster, who stands for it and how similar that is (None if the row is kept), outcome."""
        number = self._number[rows]
        at = pa.array(number, mask=number < 0)
        return (
            self.clusters.take(pa.array(self.cluster[rows])).to_pylist(),
            self._stands.take(at).to_pylist(),
            self._similarity.take(at).to_pylist(),
            [OUTCOMES[kind] for kind in self.kind[rows].tolist()],
        )


def read_verdicts(found: Duplicates, index: Index, lines: Standing) -> Verdicts:
    """Read the table of clusters, and find each of the segment's lines in it.

    :raises MedllmError: if the segment's table does not have the places of its rows, in order.
    """
    kinds = _column(found, "kind").unify_dictionaries().combine_chunks()
    of_kind = np.array([KINDS.index(kind) for kind in kinds.dictionary.to_pylist()], np.uint8)
    kind = of_kind[kinds.indices.to_numpy()] if len(kinds) else np.empty(0, np.uint8)
    sets = _column(found, "set").unify_dictionaries().combine_chunks()
    source = pc.fill_null(sets.indices, -1).to_numpy().astype(np.int32)
    sources = sets.dictionary.to_pylist()
    of_line = _lines(index, lines, source, sources, whole(_column(found, "position")))
    give_back()
    cluster, _, names = numbered(as_bytes(_column(found, "cluster")))
    removed = (kind > 0) & (kind < CONFLICT)
    number = np.where(removed, np.cumsum(removed) - 1, -1).astype(np.int32)
    return Verdicts(
        of_line=of_line,
        kind=kind,
        source=source,
        sources=sources,
        cluster=cluster.astype(np.int32),
        names=names,
        clusters=_hashes(names),
        _path=found.clusters,
        _stands=whole(_column(found, "kept").filter(pa.array(removed))),
        _similarity=whole(_column(found, "similarity").filter(pa.array(removed))),
        _number=number,
    )


def _column(found: Duplicates, name: str) -> pa.ChunkedArray:
    return pq.read_table(found.clusters, columns=[name]).column(0)


def _hashes(names: Bytes) -> pa.Array:
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(names), [None, pa.py_buffer(names)])


def _lines(
    index: Index, lines: Standing, source: npt.NDArray[np.int32], sources: list[str], positions: pa.Array
) -> npt.NDArray[np.int32]:
    of_line = np.full(index.lines, -1, np.int32)
    of_source = index.column("source")
    begins = index.numbers("begin")
    names = of_source.dictionary.to_pylist()
    codes = of_source.indices.to_numpy()
    for number, name in enumerate(sources):
        rows = np.flatnonzero(source == number)
        ours = np.flatnonzero(lines.going & (codes == names.index(name))) if name in names else np.empty(0, np.int64)
        there = begins[ours]
        wanted = pc.fill_null(positions.take(pa.array(rows)), 0).to_numpy()
        at = np.minimum(np.searchsorted(there, wanted), max(len(there) - 1, 0))
        if np.any(there[1:] <= there[:-1]) or (len(rows) and not (len(there) and np.array_equal(there[at], wanted))):
            raise MedllmError(f"{index} does not have the rows of {name} in the order of their places")
        of_line[ours[at]] = rows
    return of_line
