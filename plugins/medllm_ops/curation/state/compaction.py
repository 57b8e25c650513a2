"""Segments whose rows are mostly dead are written anew without them."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from medllm_ops.curation.segment import Segment
from medllm_ops.curation.state.segment import INDEX, Index
from medllm_ops.curation.state.tables import BATCH, LINE_BITS, to_disk
from medllm_ops.files import whole_directory

_AS_THEY_ARE: Final = ("marks.json", "review.jsonl", "samples.jsonl", "gone.txt", "settings.json")
_PLACES: Final = ("begin", "length", "cut")


def compact(database: sqlite3.Connection, segments: Path) -> None:
    """Write each segment anew of whose bytes more than half belong to no row any more.

    The lines of its table stay where they are, but dead ones have no place: so what the database says of the others
    stays true, and one row of it, the segment's folder, changes. A row that may come back to be kept is not dead.
    """
    mostly_dead = database.execute("SELECT number, folder FROM segments WHERE used * 2 < bytes").fetchall()
    for number, name in mostly_dead:
        base, _, times = name.partition(".")
        new = segments / f"{base}.{int(times or 0) + 1}"
        with whole_directory(new) as part:
            size = _without_dead(database, number, Segment(segments / name), part)
        to_disk([new])
        database.execute("UPDATE segments SET folder = ?, bytes = ? WHERE number = ?", [new.name, size, number])
        shutil.rmtree(segments / name)


def _without_dead(database: sqlite3.Connection, number: int, segment: Segment, new: Path) -> int:
    """Write what is alive of a segment; return the bytes of its rows."""
    for name in _AS_THEY_ARE:
        if (segment.folder / name).is_file():
            shutil.copyfile(segment.folder / name, new / name)
    (new / "rows").mkdir()
    index = Index(segment.index)
    alive = np.zeros(index.lines, bool)
    first, last = number << LINE_BITS, ((number + 1) << LINE_BITS) - 1
    for (place,) in database.execute("SELECT place FROM rows WHERE place BETWEEN ? AND ? AND length", [first, last]):
        alive[place - first] = True
    sources = segment.rows
    old = {source: path.open("rb") for source, path in sources.items()}
    files = {source: (new / "rows" / path.name).open("wb") for source, path in sources.items()}
    try:
        with pq.ParquetWriter(new / segment.index.name, INDEX, compression="zstd") as writer:
            for start, batch in index.batches(INDEX.names, BATCH):
                writer.write_batch(_moved(batch, alive[start : start + len(batch)], old, files))
    finally:
        for file in [*old.values(), *files.values()]:
            file.close()
    return sum(path.stat().st_size for path in Segment(new).rows.values())


def _moved(
    batch: pa.RecordBatch, alive: npt.NDArray[np.bool_], old: Mapping[str, IO[bytes]], new: Mapping[str, IO[bytes]]
) -> pa.RecordBatch:
    """Copy the lines of a batch that are alive; return it with their new places."""
    begins = np.zeros(len(batch), np.uint64)
    rows = batch.select(["source", "begin", "length"]).filter(pa.array(alive)).to_pydict()
    for line, source, begin, length in zip(np.flatnonzero(alive).tolist(), *rows.values(), strict=True):
        old[source].seek(begin)
        begins[line] = new[source].tell()
        new[source].write(old[source].read(length))
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    for name in _PLACES:
        values = begins if name == "begin" else columns[name].fill_null(0).to_numpy(zero_copy_only=False)
        columns[name] = pa.array(values, INDEX.field(name).type, mask=~alive)
    return pa.record_batch(list(columns.values()), schema=INDEX)
