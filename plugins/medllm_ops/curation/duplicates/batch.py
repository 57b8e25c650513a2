"""The rows of one step in memory: numbers only, about 80 bytes a row; the texts stay in the tables of the parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from medllm_ops.curation.duplicates.bands import Keys
from medllm_ops.curation.duplicates.hashes import Bytes, Indices, as_bytes, as_hashes, numbered, whole
from medllm_ops.curation.duplicates.signatures import ROWS
from medllm_ops.curation.workers import Job


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows in the order of their ids, one for each id.

    ``content`` is a number of :attr:`hashes`, which are sorted. ``line`` is the place of a row among the lines of all
    parts; ``first`` one of the lines where a content stands. ``again`` are the lines of rows with the id of another
    one that stands for them, in the order of ids.
    """

    ids: pa.Array
    content: Indices
    length: npt.NDArray[np.uint32]
    retracted: npt.NDArray[np.bool_]
    rank: npt.NDArray[np.uint16]
    line: npt.NDArray[np.uint32]
    again: npt.NDArray[np.uint32]
    hashes: pa.Array
    codes: npt.NDArray[np.uint8]
    first: npt.NDArray[np.uint32]
    parts: Sequence[Job]
    starts: Indices
    """The first line of each part, and the number of lines."""

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.content)

    def locate(self, contents: Indices) -> tuple[Indices, Indices]:
        """The part and the row in it where contents stand."""
        lines = self.first[contents].astype(np.int64)
        part = np.searchsorted(self.starts, lines, side="right") - 1
        return part, lines - self.starts[part]

    def keys(self, band: int, contents: Indices) -> Keys:
        """The keys of a band of some contents."""
        whole = [np.load(f"{part['out']}.npy", mmap_mode="r")[band] for part in self.parts]
        keys: Keys = np.concatenate([np.empty(0, np.uint32), *whole])[self.first[contents]]
        return keys

    def column(self, name: str) -> pa.ChunkedArray:
        """A column of the parts, in the order of the lines."""
        return _column(self.parts, name)


def read_batch(parts: Sequence[Job], counts: Sequence[int], without: pa.Array) -> Batch:
    """Read what :func:`~medllm_ops.curation.duplicates.signatures.sketch` wrote of all parts.

    Of rows with the same id the one of the highest version stands for it, then one not retracted, then the one of the
    lowest content hash, then the one of the lowest line.

    :param without: ids whose rows are not looked at.
    """
    ids = whole(_column(parts, "id"))
    order = pc.sort_indices(ids).to_numpy().astype(np.uint32)
    ids = ids.take(pa.array(order))
    if len(without):
        looked_at = pc.invert(pc.is_in(ids, without.cast(ids.type)))
        ids, order = ids.filter(looked_at), order[looked_at.to_numpy(zero_copy_only=False)]
    starts = np.cumsum([0, *counts])
    hashes = as_bytes(_column(parts, "content"))
    versions, retracted = _numbers(parts, "version"), _numbers(parts, "retracted")
    again = _same_as_before(ids)
    for begin, end in _runs(again):
        lines = order[begin:end]
        by_content, by_line = (numbered(values)[0] for values in (hashes[lines], _raw(parts, starts, lines)))
        order[begin:end] = lines[np.lexsort((by_line, by_content, retracted[lines], -versions[lines]))]
    line = order[~again]
    content, first, unique = numbered(hashes[line])
    return Batch(
        ids=ids.filter(pa.array(~again)),
        content=content,
        length=_numbers(parts, "length")[line],
        retracted=retracted[line],
        rank=_numbers(parts, "rank")[line],
        line=line,
        again=order[again],
        hashes=as_hashes(unique),
        codes=_numbers(parts, "code")[line[first]],
        first=line[first],
        parts=parts,
        starts=starts,
    )


def part_files(parts: Sequence[Job]) -> list[Path]:
    """The tables of the parts."""
    return [Path(f"{part['out']}.arrow") for part in parts]


def _column(parts: Sequence[Job], name: str) -> pa.ChunkedArray:
    chunks = [pa.ipc.open_file(pa.memory_map(str(file))).read_all().column(name) for file in part_files(parts)]
    return pa.chunked_array([chunk for column in chunks for chunk in column.chunks], ROWS.field(name).type)


def _numbers(parts: Sequence[Job], name: str) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = _column(parts, name).to_numpy()
    return values


def _raw(parts: Sequence[Job], starts: Indices, lines: npt.NDArray[np.uint32]) -> Bytes:
    """The hashes of some lines as they were read."""
    found = []
    for line, part in zip(lines.tolist(), (np.searchsorted(starts, lines, side="right") - 1).tolist(), strict=True):
        table = pa.ipc.open_file(pa.memory_map(f"{parts[part]['out']}.arrow")).get_batch(0)
        with Path(parts[part]["file"]).open("rb") as file:
            file.seek(table.column("position")[line - int(starts[part])].as_py())
            found.append(xxhash.xxh3_128_digest(file.readline()))
    return np.array(found, "S16")


def _same_as_before(ids: pa.Array) -> npt.NDArray[np.bool_]:
    again = np.zeros(len(ids), bool)
    if len(ids) > 1:
        again[1:] = pc.equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
    return again


def _runs(again: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """The bounds of the rows that share an id with another one."""
    edges = np.diff(np.concatenate([[0], again.astype(np.int8), [0]]))
    return list(zip((np.flatnonzero(edges == 1) - 1).tolist(), np.flatnonzero(edges == -1).tolist(), strict=True))
