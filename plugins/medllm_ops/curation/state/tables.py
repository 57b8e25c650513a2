"""The tables of the state, and connections to them."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from medllm_ops.errors import MedllmError

DATABASE: Final = "state.sqlite"
GONE: Final = "gone"
"""The step of rows that are no more."""
DELETED: Final = "deleted"
NOT_GIVEN: Final = "not given again"

LINE_BITS: Final = 32
"""``rows.place`` is the number of the segment, and in so many lower bits the line of its index."""

BATCH: Final = 1 << 16
"""Rows that are in memory as Python's objects at a time."""

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS rows (
    place INTEGER PRIMARY KEY, id TEXT NOT NULL, source TEXT NOT NULL, digest BLOB NOT NULL, length INTEGER NOT NULL,
    cluster BLOB, kept TEXT, similarity REAL, side INTEGER NOT NULL, step TEXT, reason TEXT, detail TEXT
);
CREATE TABLE IF NOT EXISTS extra (
    id TEXT, digest BLOB, segment INTEGER, source TEXT, step TEXT, reason TEXT, detail TEXT, kept TEXT, lines INTEGER,
    PRIMARY KEY (id, digest)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cluster_sides (name BLOB PRIMARY KEY, side INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS standing (
    source TEXT, side INTEGER, rows INTEGER NOT NULL, PRIMARY KEY (source, side)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS segments (
    number INTEGER PRIMARY KEY, folder TEXT NOT NULL, bytes INTEGER NOT NULL, used INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS marks (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
_INDICES: Final = {
    "rows_by_id": "CREATE UNIQUE INDEX rows_by_id ON rows (id)",
    "rows_by_step": "CREATE INDEX rows_by_step ON rows (step, id) WHERE step IS NOT NULL",
}

# Pages of the database in memory, in KiB: what an increment changes fits, and reaches the file once.
_CACHE: Final = 65_536
_PATIENCE: Final = 60.0


class Side(IntEnum):
    """Where a row stands, as it is written."""

    UNKNOWN = 0
    TRAIN = 1
    VAL = 2


SIDES: Final = ("", "train", "val")
"""The names of :class:`Side`."""


def connect(folder: Path) -> sqlite3.Connection:
    """Open the tables of a state for writing; they are made at need.

    :raises MedllmError: if the file is no database.
    """
    database = sqlite3.connect(folder / DATABASE, isolation_level=None, timeout=_PATIENCE)
    try:
        with broken(folder):
            database.execute(f"PRAGMA cache_size = -{_CACHE}")
            database.executescript(_TABLES)
    except MedllmError:
        database.close()
        raise
    return database


@contextmanager
def reading(folder: Path) -> Iterator[sqlite3.Connection | None]:
    """Open the tables of a state for reading only; None if there is no state."""
    if not (folder / DATABASE).is_file():
        yield None
        return
    address = f"file:{quote(str((folder / DATABASE).absolute()))}?mode=ro"
    with (
        broken(folder),
        closing(sqlite3.connect(address, uri=True, isolation_level=None, timeout=_PATIENCE)) as database,
    ):
        known = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'rows'").fetchone()
        yield database if known else None


@contextmanager
def broken(folder: Path) -> Iterator[None]:
    """Say what a user can do about a database that cannot be read or written."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise MedllmError(
            f"the state {folder} cannot be used ({error}): see that its disk has room, or remove it and give all rows"
        ) from error


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """All statements of the block, or none."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def drop_indices(database: sqlite3.Connection) -> None:
    """For a new state: with the indices made when the rows are there, it takes a third of the time."""
    for name in _INDICES:
        database.execute(f"DROP INDEX IF EXISTS {name}")


def make_indices(database: sqlite3.Connection) -> None:
    """Make the indices of rows, by id and, of those that are not kept, by step."""
    for statement in _INDICES.values():
        database.execute(statement)


def mark(database: sqlite3.Connection, name: str) -> str:
    """A short text about the whole state; empty if it was never set."""
    found = database.execute("SELECT value FROM marks WHERE name = ?", [name]).fetchone()
    return str(found[0]) if found else ""


def set_mark(database: sqlite3.Connection, name: str, value: str) -> None:
    """Set what :func:`mark` reads."""
    database.execute("INSERT OR REPLACE INTO marks VALUES (?, ?)", [name, value])


def fetch(cursor: sqlite3.Cursor) -> Iterator[list[tuple[Any, ...]]]:
    """The rows of a cursor, some at a time."""
    while rows := cursor.fetchmany(BATCH):
        yield rows


def to_disk(folders: Iterable[Path]) -> None:
    """Have what was written into folders on the disk before the database says that it is there."""
    for folder in folders:
        for path in [folder, *folder.rglob("*")]:
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
