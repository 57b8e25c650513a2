"""The rows that are kept, as numbers: some 40 bytes a row in memory, whatever is written of them in the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from medllm_ops.curation.settings import STEPS
from medllm_ops.curation.state.state import CurationState

Array: TypeAlias = npt.NDArray[Any]

STEP_NUMBERS: Final = {step: number for number, step in enumerate(STEPS, start=1)}
"""What :attr:`Listing.dropped` holds for each step; 0 for a row that stays."""

_PLACES: Final = {"begin": np.uint64, "cut": np.uint32, "characters": np.uint32}
_CODES: Final = ("source", "language", "licence")


@dataclass(slots=True)
class Listing:
    """All rows that the state keeps, in its order, a number of each in each array."""

    state: Path
    """The folder of the state."""
    segments: list[Path]
    names: dict[str, list[str]]
    """What the codes of ``source``, ``language`` and ``licence`` stand for."""
    columns: dict[str, Array]
    dropped: npt.NDArray[np.uint8]
    """The step that leaves the row out, by :data:`STEP_NUMBERS`."""
    reasons: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Reason and detail of rows that are left out, where they are not the same for all of the step."""

    def __len__(self) -> int:
        return len(self.dropped)

    def __getitem__(self, name: str) -> Array:
        return self.columns[name]

    @property
    def sources(self) -> list[str]:
        """The names of all sources."""
        return sorted(self.names["source"])

    def of(self, source: str) -> npt.NDArray[np.int64]:
        """The numbers of the rows of a source that stay."""
        return np.flatnonzero((self["source"] == self.names["source"].index(source)) & (self.dropped == 0))

    def drop(self, numbers: Array | int, step: str) -> None:
        """Leave rows out."""
        self.dropped[numbers] = STEP_NUMBERS[step]

    def counts(self, name: str, numbers: Array | slice) -> dict[str, int]:
        """How many of some rows have which value of a column of names, by name."""
        found = np.bincount(self[name][numbers], minlength=len(self.names[name])).tolist()
        return {value: count for value, count in sorted(zip(self.names[name], found, strict=True)) if count}


def read_listing(state: CurationState, seed: int) -> Listing:
    """Read the rows that the state keeps, each with the xxh3-64 of its id, which orders rows and draws samples."""
    segments = list(state.segments())
    names: dict[str, dict[str, int]] = {name: {} for name in _CODES}
    parts: dict[str, list[Array]] = {name: [] for name in (*_PLACES, *_CODES, "segment", "hash", "val")}
    for kept in state.kept():
        rows = kept.rows.combine_chunks()
        for name, type_ in _PLACES.items():
            parts[name].append(rows[name].to_numpy().astype(type_, copy=False))
        for name in _CODES:
            parts[name].append(_codes(rows[name], names[name]))
        parts["segment"].append(np.full(len(rows), segments.index(kept.segment), np.uint32))
        parts["hash"].append(id_hashes(rows["id"].cast(pa.binary()).to_pylist(), seed))
        parts["val"].append(pc.equal(rows["side"].cast(pa.string()), "val").to_numpy(zero_copy_only=False))
    columns = {}
    for name in list(parts):
        arrays = parts.pop(name)
        columns[name] = np.concatenate(arrays) if arrays else np.empty(0, np.uint32)
    return Listing(
        state.folder,
        segments,
        {name: list(values) for name, values in names.items()},
        columns,
        np.zeros(len(columns["hash"]), np.uint8),
    )


def id_hashes(ids: list[bytes], seed: int) -> npt.NDArray[np.uint64]:
    """The xxh3-64 of ids, in UTF-8."""
    return np.fromiter(map(partial(xxhash.xxh3_64_intdigest, seed=seed), ids), np.uint64, len(ids))


def _codes(column: Any, known: dict[str, int]) -> Array:
    """A column of names as the numbers that stand for them, new ones added."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0)
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    values = [value or "" for value in encoded.dictionary.to_pylist()]
    numbers = np.array([known.setdefault(value, len(known)) for value in [*values, ""]], np.uint32)
    indices = encoded.indices.fill_null(len(values)).to_numpy(zero_copy_only=False)
    codes: Array = numbers[indices]
    return codes


@dataclass(frozen=True, slots=True)
class DroppedRows:
    """Rows that one step leaves out, by id."""

    ids: pa.Array
    numbers: npt.NDArray[np.int64]
    """Their numbers in the listing."""


def dropped_rows(state: CurationState, listing: Listing) -> dict[str, DroppedRows]:
    """The ids of all rows that are left out, by step, sorted; read from the state a second time."""
    ids: dict[int, list[pa.Array]] = {}
    numbers: dict[int, list[Array]] = {}
    for first, column in _ids(state):
        steps = listing.dropped[first : first + len(column)]
        for step in np.unique(steps[steps > 0]).tolist():
            places = np.flatnonzero(steps == step)
            ids.setdefault(step, []).append(column.take(pa.array(places)))
            numbers.setdefault(step, []).append(places + first)
    found = {}
    for step, arrays in ids.items():
        column = pa.concat_arrays(arrays)
        order = pc.sort_indices(column)
        found[STEPS[step - 1]] = DroppedRows(column.take(order), np.concatenate(numbers[step])[order.to_numpy()])
    return found


def _ids(state: CurationState) -> Iterator[tuple[int, pa.Array]]:
    first = 0
    for kept in state.kept():
        column = kept.rows["id"].combine_chunks()
        yield first, column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
        first += len(column)
