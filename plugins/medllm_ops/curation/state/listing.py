"""What is read of the state: the rows that are kept, those that are not, and their counts."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from medllm_ops.curation.duplicates.hashes import CONTENT
from medllm_ops.curation.segment import Segment
from medllm_ops.curation.state.segment import INDEX, NAME, Index
from medllm_ops.curation.state.tables import BATCH, GONE, LINE_BITS, SIDES, fetch

_OF_INDEX: Final = ("id", "source", "begin", "length", "cut", "language", "licence", "characters")

KEPT_ROWS: Final = pa.schema([*(INDEX.field(name) for name in _OF_INDEX), ("cluster", CONTENT), ("side", NAME)])
"""A row that is kept: ``rows/<source>.jsonl`` of its segment holds its line of ``length`` bytes from ``begin`` on;
``cut`` of its bytes and a ``}`` are the exported line. ``side`` is train or val. No column has nulls, but ``language``
and ``licence`` are as the segment's index has them."""

_STATE_ROW: Final = "place, id, source, side, cluster, kept, similarity, step, reason, detail, length"
_LINE: Final = (1 << LINE_BITS) - 1


@dataclass(frozen=True, slots=True)
class KeptRows:
    """Some kept rows of one segment: for each source, in the order of their lines in its file."""

    segment: Path
    """The folder of the segment; ``segment / "rows" / f"{source}.jsonl"`` has the lines. A segment whose rows are
    mostly dead is written anew, under another name: what is kept of a segment elsewhere is kept under its name."""
    rows: pa.Table
    """:data:`KEPT_ROWS`, at most 65,536 of them, each column in one chunk."""


@dataclass(frozen=True, slots=True)
class Removed:
    """A row, or several equal input lines, that a step of the state or before it removed."""

    id: str
    source: str
    step: str
    """``read``, ``clean``, ``scrub``, ``exact dedup``, ``near dedup`` or ``split``."""
    reason: str
    detail: str
    """Empty if there is none."""
    kept: str
    """The id of the row that stands for it; empty if none does."""
    lines: int = 1
    """How many equal input lines under one id this stands for."""


@dataclass(frozen=True, slots=True)
class Count:
    """How many input lines of a source a step removed for a reason; of those that are kept, both are empty."""

    step: str
    reason: str
    source: str
    lines: int


@dataclass(frozen=True, slots=True)
class StateRow:
    """What is known of an id, whether it is kept, removed, or no more."""

    id: str
    source: str
    segment: int
    """The number of the segment that it came with last."""
    side: str
    """``train`` or ``val`` as written at first sight; empty for a row that never went on to the split."""
    cluster: str
    """Its cluster's name, 32 hexadecimal digits; empty for a row that is in none."""
    kept: str
    """The id of the row that stands for it, its own if it is kept; empty if none does."""
    similarity: float
    """With that one."""
    step: str
    """What removed it; empty for a row that is kept; ``gone`` for one that is no more."""
    reason: str
    detail: str
    line: bytes
    """Its line in its segment; empty if it has none any more."""
    cut: int


def kept_rows(database: sqlite3.Connection, segments: Iterable[tuple[int, Path]]) -> Iterator[KeptRows]:
    """The rows that are kept, by segment and line.

    :param segments: the number and the folder of each.
    """
    for number, folder in segments:
        start = number << LINE_BITS
        used = database.execute("SELECT used FROM segments WHERE number = ?", [number]).fetchone()[0]
        for first, batch in Index(Segment(folder).index).batches(_OF_INDEX, BATCH) if used else ():
            found = database.execute(
                "SELECT place, side, cluster FROM rows WHERE place >= ? AND place < ? AND step IS NULL ORDER BY place",
                [start + first, start + first + len(batch)],
            )
            rows = _kept(batch, found, start + first)
            if rows.num_rows:
                yield KeptRows(folder, rows)


def _kept(batch: pa.RecordBatch, found: Iterable[tuple[int, int, bytes]], start: int) -> pa.Table:
    places: list[int] = []
    sides: list[int] = []
    clusters: list[bytes] = []
    # With fetchall, which makes a tuple for each, it takes twice the time.
    for place, side, cluster in found:
        places.append(place)
        sides.append(side)
        clusters.append(cluster)
    rows = batch.take(pa.array(np.array(places, np.int64) - start))
    hashes = pa.FixedSizeBinaryArray.from_buffers(CONTENT, len(clusters), [None, pa.py_buffer(b"".join(clusters))])
    side_column = pa.DictionaryArray.from_arrays(pa.array(np.array(sides, np.int32) - 1), pa.array(SIDES[1:]))
    return pa.Table.from_arrays([*rows.columns, hashes, side_column], schema=KEPT_ROWS)


def counted(database: sqlite3.Connection) -> list[Count]:
    """The input lines by step, reason and source."""
    found = database.execute(
        """SELECT ifnull(step, ''), ifnull(reason, ''), source, sum(lines) FROM (
            SELECT step, reason, source, count(*) AS lines FROM rows WHERE step IS NOT ? GROUP BY 1, 2, 3
            UNION ALL SELECT step, reason, source, lines FROM extra
        ) GROUP BY 1, 2, 3 ORDER BY 1, 2, 3""",
        [GONE],
    )
    return [Count(*row) for row in found]


def removed_rows(database: sqlite3.Connection, step: str) -> Iterator[Removed]:
    """What a step removed, by id, reason and detail."""
    cursor = database.execute(
        """SELECT id, source, step, reason, ifnull(detail, '') AS detail, ifnull(kept, ''), 1 AS lines FROM rows
        WHERE step = ?1 UNION ALL SELECT id, source, step, reason, ifnull(detail, ''), kept, lines FROM extra
        WHERE step = ?1 ORDER BY id, reason, detail, source, lines""",
        [step],
    )
    for rows in fetch(cursor):
        yield from (Removed(*row) for row in rows)


def clusters(database: sqlite3.Connection, count: int) -> list[list[tuple[Any, ...]]]:
    """The rows of the clusters with the lowest names of those that have a row that is not kept, each by id."""
    names = database.execute(
        "SELECT DISTINCT cluster FROM rows WHERE kept IS NOT NULL ORDER BY cluster LIMIT ?", [count]
    ).fetchall()
    places = ", ".join("?" * len(names))
    found: dict[bytes, list[tuple[Any, ...]]] = {name: [] for (name,) in names}
    for row in database.execute(
        f"SELECT {_STATE_ROW} FROM rows WHERE cluster IN ({places}) ORDER BY cluster, id", [name for (name,) in names]
    ):
        found[row[4]].append(row)
    return list(found.values())


def by_id(database: sqlite3.Connection, ids: Iterable[str]) -> list[tuple[Any, ...]]:
    """What is known of some ids."""
    found = []
    for id_ in ids:
        found += database.execute(f"SELECT {_STATE_ROW} FROM rows WHERE id = ?", [id_]).fetchall()
    return found


def with_lines(rows: Iterable[tuple[Any, ...]], segments: Mapping[int, Path]) -> dict[str, StateRow]:
    """The rows of :func:`by_id` and :func:`clusters`, by id, with their lines."""
    rows = list(rows)
    wanted: defaultdict[int, list[int]] = defaultdict(list)
    for place, *_, length in rows:
        if length:
            wanted[place >> LINE_BITS].append(place & _LINE)
    lines = {
        (number << LINE_BITS) | line: text
        for number, some in wanted.items()
        for line, text in _lines(segments[number], sorted(some))
    }
    found = {}
    for place, id_, source, side, cluster, kept, similarity, step, reason, detail, _ in rows:
        line, cut = lines.get(place, (b"", 0))
        found[id_] = StateRow(
            id=id_,
            source=source,
            segment=place >> LINE_BITS,
            side=SIDES[side],
            cluster=cluster.hex() if cluster else "",
            kept=kept or (id_ if cluster else ""),
            similarity=1.0 if similarity is None else similarity,
            step=step or "",
            reason=reason or "",
            detail=detail or "",
            line=line,
            cut=cut,
        )
    return found


def _lines(folder: Path, lines: Sequence[int]) -> Iterator[tuple[int, tuple[bytes, int]]]:
    """The text and the cut of some lines of a segment, read from the groups of its table in which they are."""
    segment = Segment(folder)
    table = pq.ParquetFile(segment.index)
    ends = np.cumsum([table.metadata.row_group(group).num_rows for group in range(table.num_row_groups)])
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for line in lines:
        groups[int(np.searchsorted(ends, line, side="right"))].append(line)
    for group, some in groups.items():
        start = int(ends[group]) - table.metadata.row_group(group).num_rows
        columns = table.read_row_group(group, columns=["source", "begin", "length", "cut"])
        for line, row in zip(some, columns.take([line - start for line in some]).to_pylist(), strict=True):
            with segment.rows[row["source"]].open("rb") as file:
                file.seek(row["begin"])
                yield line, (file.read(row["length"]), row["cut"])
