"""A segment comes into the tables: its rows, the clusters and sides of them and of rows from before, in one go."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from medllm_ops.curation.duplicates.result import SAME_ID, Duplicates
from medllm_ops.curation.segment import Segment
from medllm_ops.curation.state.segment import Index, Standing, give_back
from medllm_ops.curation.state.sides import Codes, Members, cluster_sides
from medllm_ops.curation.state.tables import (
    BATCH,
    DELETED,
    GONE,
    LINE_BITS,
    NOT_GIVEN,
    Side,
    drop_indices,
    fetch,
    make_indices,
)
from medllm_ops.curation.state.verdicts import CONFLICT, KINDS, OUTCOMES, Verdicts, read_verdicts

_ROW: Final = (
    "place", "id", "source", "digest", "length", "cluster", "kept", "similarity", "side", "step", "reason", "detail"
)  # fmt: skip
_NEW_ROW: Final = f"INSERT INTO rows ({', '.join(_ROW)}) VALUES ({', '.join('?' * len(_ROW))})"
# A side is written once; of a row that does not go on this time it stays as well.
_ROW_AGAIN: Final = f"""{_NEW_ROW} ON CONFLICT (id) DO UPDATE SET
    {", ".join(f"{name} = excluded.{name}" for name in _ROW if name not in ("id", "side"))},
    side = max(side, excluded.side)"""
_EXTRA: Final = """INSERT INTO extra VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1) ON CONFLICT (id, digest) DO UPDATE SET
    lines = CASE segment WHEN excluded.segment THEN lines + 1 ELSE 1 END, segment = excluded.segment,
    source = excluded.source, step = excluded.step, reason = excluded.reason, detail = excluded.detail,
    kept = excluded.kept"""
_SAME_ID: Final = KINDS.index(SAME_ID)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A segment, and what was found of it."""

    number: int
    """Of the segment."""
    segment: Segment
    index: Index
    lines: Standing
    gone: Sequence[str]
    """Ids that are no more; one that is given all the same is given."""
    full: bool
    """Whether the ids that are ``gone`` are those that were not given."""
    found: Duplicates


def take_in(database: sqlite3.Connection, arrival: Arrival, val_share: Callable[[str], float]) -> None:
    """Write a segment into the tables; the caller's transaction makes it all or nothing.

    The cost is in proportion to the segment and the clusters that it touches.
    """
    verdicts = read_verdicts(arrival.found, arrival.index, arrival.lines)
    give_back()
    new = database.execute("SELECT 1 FROM rows LIMIT 1").fetchone() is None
    side = np.zeros(len(verdicts.kind), np.uint8)
    if new:
        drop_indices(database)
    else:
        _touch(database, arrival, verdicts)
        _tally(database, -1)
        _recall(database, verdicts, side)
        _forget(database, arrival)
    _assign(database, verdicts, side, arrival.found, val_share)
    size = sum(path.stat().st_size for path in arrival.segment.rows.values())
    name = arrival.segment.folder.name
    database.execute("INSERT INTO segments VALUES (?, ?, ?, 0)", [arrival.number, name, size])
    _write(database, arrival, verdicts, side, new)
    _update(database, verdicts, side)
    if new:
        make_indices(database)
        _tally(database, 1, "rows")
    else:
        _tally(database, 1)
        _forget_extra(database, arrival.number)
        database.execute("DROP TABLE temp.touched")


def missing(database: sqlite3.Connection, index: Index) -> list[str]:
    """The ids that are there, and of which a segment has no line."""
    if database.execute("SELECT 1 FROM rows LIMIT 1").fetchone() is None:
        return []
    database.execute("CREATE TEMP TABLE given (id TEXT PRIMARY KEY) WITHOUT ROWID")
    for _, batch in index.batches(["id"], BATCH):
        database.executemany("INSERT OR IGNORE INTO given VALUES (?)", zip(batch.column(0).to_pylist(), strict=True))
    found = database.execute(
        "SELECT id FROM rows WHERE step IS NOT ? AND NOT EXISTS (SELECT 1 FROM given WHERE given.id = rows.id)", [GONE]
    ).fetchall()
    database.execute("DROP TABLE given")
    return [row[0] for row in found]


def _touch(database: sqlite3.Connection, arrival: Arrival, verdicts: Verdicts) -> None:
    """Make the table of the ids that change, or whose cluster does, with their numbers among the verdicts."""
    database.execute("CREATE TEMP TABLE touched (id TEXT PRIMARY KEY, row INTEGER) WITHOUT ROWID")
    for numbers, ids in verdicts.ids():
        database.executemany("INSERT INTO touched VALUES (?, ?)", zip(ids, numbers, strict=True))
    for others in (arrival.lines.dropped.to_pylist(), arrival.gone):
        database.executemany("INSERT OR IGNORE INTO touched VALUES (?, NULL)", zip(others, strict=True))


def _tally(database: sqlite3.Connection, sign: int, rows: str = "touched CROSS JOIN rows USING (id)") -> None:
    """Count what stands of the rows that are touched out of the totals, before they change, or into them."""
    database.execute(
        f"""INSERT INTO standing SELECT source, side, {sign} * count(*) FROM {rows} WHERE step IS NULL
        GROUP BY source, side ON CONFLICT (source, side) DO UPDATE SET rows = rows + excluded.rows"""
    )
    used = database.execute(f"SELECT place >> {LINE_BITS}, {sign} * sum(length) FROM {rows} GROUP BY 1").fetchall()
    database.executemany("UPDATE segments SET used = used + ?2 WHERE number = ?1", used)


def _recall(database: sqlite3.Connection, verdicts: Verdicts, side: Codes) -> None:
    """Read the sides that rows have, and the sources of those from before."""
    numbers = {source: number for number, source in enumerate(verdicts.sources)}
    cursor = database.execute("SELECT row, side, source FROM touched CROSS JOIN rows USING (id) WHERE row IS NOT NULL")
    for rows in fetch(cursor):
        for row, known, source in rows:
            side[row] = known
            if verdicts.source[row] < 0:
                verdicts.source[row] = numbers.setdefault(source, len(numbers))
    verdicts.sources[:] = list(numbers)


def _forget(database: sqlite3.Connection, arrival: Arrival) -> None:
    """Rows that are gone stay known, without a text."""
    reason = NOT_GIVEN if arrival.full else DELETED
    database.executemany(
        """UPDATE rows SET length = 0, cluster = NULL, kept = NULL, similarity = NULL, step = ?, reason = ?,
        detail = NULL WHERE id = ? AND step IS NOT ?""",
        ((GONE, reason, id_, GONE) for id_ in arrival.gone),
    )
    if arrival.full:
        database.execute("DELETE FROM extra")
    else:
        database.executemany("DELETE FROM extra WHERE id = ?", zip(arrival.gone, strict=True))


def _assign(
    database: sqlite3.Connection,
    verdicts: Verdicts,
    side: Codes,
    found: Duplicates,
    val_share: Callable[[str], float],
) -> None:
    """Find the sides of clusters and rows, and write those of clusters."""
    joined = [(bytes.fromhex(old), bytes.fromhex(now)) for old, now in found.figures["joined"].items()]
    at = np.searchsorted(verdicts.names, np.array([now for _, now in joined], "S16")).tolist()
    before = _written(database, verdicts, [(old, number) for (old, _), number in zip(joined, at, strict=True)])
    ours = verdicts.kind != _SAME_ID
    source = verdicts.source.astype(np.int64)
    members = Members(verdicts.cluster[ours], side[ours], source[ours], verdicts.kind[ours] == 0)
    standing = {(source, one): rows for source, one, rows in database.execute("SELECT * FROM standing")}
    sides = cluster_sides(members, verdicts.names, before, verdicts.sources, standing, val_share)
    of_row = sides[verdicts.cluster]
    np.copyto(side, of_row, where=side == Side.UNKNOWN)
    verdicts.kind[(verdicts.kind == 0) & (side != of_row)] = CONFLICT
    written: Iterator[tuple[bytes, int]]
    different = sides != before
    # What was written of one that took others in may be another side than theirs.
    different[at] = True
    changed = np.flatnonzero(different)
    for first in range(0, len(changed), BATCH):
        some = changed[first : first + BATCH]
        written = zip(verdicts.clusters.take(pa.array(some)).to_pylist(), sides[some].tolist(), strict=True)
        database.executemany("INSERT OR REPLACE INTO cluster_sides VALUES (?, ?)", written)
    written = ((old, int(sides[number])) for (old, _), number in zip(joined, at, strict=True))
    database.executemany("INSERT OR REPLACE INTO cluster_sides VALUES (?, ?)", written)


def _written(database: sqlite3.Connection, verdicts: Verdicts, joined: Sequence[tuple[bytes, int]]) -> Codes:
    """By cluster, the side that was written of it or of one that is now part of it; of both, train."""
    before = np.zeros(len(verdicts.names), np.uint8)
    if database.execute("SELECT 1 FROM cluster_sides LIMIT 1").fetchone() is None:
        return before
    database.execute("CREATE TEMP TABLE wanted (name BLOB, number INTEGER)")
    for first in range(0, len(verdicts.clusters), BATCH):
        some = verdicts.clusters.slice(first, BATCH).to_pylist()
        numbers = range(first, first + len(some))
        database.executemany("INSERT INTO wanted VALUES (?, ?)", zip(some, numbers, strict=True))
    database.executemany("INSERT INTO wanted VALUES (?, ?)", joined)
    for rows in fetch(database.execute("SELECT number, side FROM wanted CROSS JOIN cluster_sides USING (name)")):
        for number, side in rows:
            before[number] = min(before[number] or side, side)
    database.execute("DROP TABLE temp.wanted")
    return before


def _write(database: sqlite3.Connection, arrival: Arrival, verdicts: Verdicts, side: Codes, new: bool) -> None:
    """Write the lines of the segment, in order."""
    columns = ["id", "source", "digest", "length", "step", "reason", "detail"]
    for first, batch in arrival.index.batches(columns, BATCH):
        row = verdicts.of_line[first : first + len(batch)]
        going = arrival.lines.going[first : first + len(batch)]
        again = np.fromiter((line in arrival.lines.again for line in range(first, first + len(batch))), bool)
        extra = np.where(going, row < 0, again)
        extra[row >= 0] |= verdicts.kind[row[row >= 0]] == _SAME_ID
        place = (arrival.number << LINE_BITS) + first + np.arange(len(batch))
        rows = [*_gone_on(batch, place, row, verdicts, side, ~extra & going), *_dropped(batch, place, ~extra & ~going)]
        rows.sort(key=itemgetter(0))
        database.executemany(_NEW_ROW if new else _ROW_AGAIN, rows)
        database.executemany(_EXTRA, _extra(batch, arrival.number, extra))


def _columns(batch: pa.RecordBatch, chosen: npt.NDArray[np.bool_], *names: str) -> list[list[Any]]:
    mask = pa.array(chosen)
    return [batch.column(name).filter(mask).to_pylist() for name in names]


def _gone_on(
    batch: pa.RecordBatch,
    place: npt.NDArray[np.int64],
    row: npt.NDArray[np.int32],
    verdicts: Verdicts,
    side: Codes,
    chosen: npt.NDArray[np.bool_],
) -> Iterator[tuple[Any, ...]]:
    columns = _columns(batch, chosen, "id", "source", "digest", "length")
    *values, outcomes = verdicts.values(row[chosen])
    numbers = (place[chosen].tolist(), side[row[chosen]].tolist())
    for where, one, id_, source, digest, length, cluster, kept, similarity, (step, reason) in zip(
        *numbers, *columns, *values, outcomes, strict=True
    ):
        yield where, id_, source, digest, length, cluster, kept, similarity, one, step, reason, None


def _dropped(
    batch: pa.RecordBatch, place: npt.NDArray[np.int64], chosen: npt.NDArray[np.bool_]
) -> Iterator[tuple[Any, ...]]:
    columns = _columns(batch, chosen, "id", "source", "digest", "step", "reason", "detail")
    for where, id_, source, digest, *why in zip(place[chosen].tolist(), *columns, strict=True):
        yield where, id_, source, digest, 0, None, None, None, int(Side.UNKNOWN), *why


def _extra(batch: pa.RecordBatch, number: int, chosen: npt.NDArray[np.bool_]) -> Iterator[tuple[Any, ...]]:
    columns = _columns(batch, chosen, "id", "digest", "source", "step", "reason", "detail")
    for id_, digest, source, step, reason, detail in zip(*columns, strict=True):
        why = (step, reason, detail, "") if step else (*OUTCOMES[_SAME_ID], None, id_)
        yield id_, digest, number, source, *why


def _update(database: sqlite3.Connection, verdicts: Verdicts, side: Codes) -> None:
    """Write what became of rows from before whose cluster the segment touched."""
    before = np.ones(len(verdicts.kind), bool)
    before[verdicts.of_line[verdicts.of_line >= 0]] = False
    if not before.any():
        return
    for numbers, ids in verdicts.ids(before):
        rows = np.array(numbers, np.int64)
        *values, outcomes = verdicts.values(rows)
        database.executemany(
            "UPDATE rows SET cluster = ?, kept = ?, similarity = ?, side = ?, step = ?, reason = ? WHERE id = ?",
            (
                (cluster, kept, similarity, one, step, reason, id_)
                for cluster, kept, similarity, one, (step, reason), id_ in zip(
                    *values, side[rows].tolist(), outcomes, ids, strict=True
                )
            ),
        )


def _forget_extra(database: sqlite3.Connection, number: int) -> None:
    """A line that stood behind another one, and now stands for its id, is counted once."""
    database.execute(
        """DELETE FROM extra WHERE segment < ? AND id IN (SELECT id FROM touched) AND EXISTS (
        SELECT 1 FROM rows WHERE rows.id = extra.id AND rows.digest = extra.digest)""",
        [number],
    )
