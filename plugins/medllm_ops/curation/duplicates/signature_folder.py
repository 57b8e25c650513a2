"""Signatures and clusters of all rows seen so far, in a folder.

``rows.sqlite`` knows each row's content and cluster. ``segments/<number>`` holds the texts that one step added, sorted
by content hash, with their band keys sorted for searching in place: a lookup reads a few pages of each. A new segment
takes in the older ones that are not larger than itself, so there are few.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from medllm_ops.curation.duplicates.bands import Keys
from medllm_ops.curation.duplicates.hashes import CONTENT, Indices, as_hashes
from medllm_ops.curation.duplicates.known import KNOWN_ROWS, Change
from medllm_ops.curation.duplicates.segment import Segment, merge_segments, write_segment
from medllm_ops.curation.duplicates.settings import DuplicateSettings
from medllm_ops.curation.duplicates.signatures import fingerprint
from medllm_ops.errors import MedllmError
from medllm_ops.files import remove

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS rows (
    id TEXT PRIMARY KEY, content BLOB, cluster BLOB, kept TEXT, similarity REAL, length INTEGER, retracted INTEGER,
    rank INTEGER
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS segments (number INTEGER PRIMARY KEY, texts INTEGER);
CREATE TABLE IF NOT EXISTS settings (fingerprint TEXT);
CREATE TABLE IF NOT EXISTS steps (name TEXT);
"""
_INDICES: Final = {"rows_by_content": "content", "rows_by_cluster": "cluster"}
_COLUMNS: Final = ", ".join(KNOWN_ROWS.names)


def _want(database: sqlite3.Connection, values: Iterable[str | bytes]) -> None:
    """Make the table ``wanted`` of this connection, to be joined with."""
    database.execute("CREATE TEMP TABLE wanted (value PRIMARY KEY) WITHOUT ROWID")
    database.executemany("INSERT OR IGNORE INTO wanted VALUES (?)", ([value] for value in values))


class SignatureFolder:
    """What is remembered, in a folder that is made at need; one writer at a time.

    :param step: a name for what will be told, by which :attr:`last_step` says whether it was.
    :raises MedllmError: if the folder was made with other shingles, bands, or another MinHash.
    """

    def __init__(self, folder: Path, settings: DuplicateSettings, step: str = "") -> None:
        self._folder = folder
        self._step = step
        self._bands = settings.bands
        folder.mkdir(parents=True, exist_ok=True)
        made = fingerprint(settings)
        with self._database() as database:
            database.executescript(_TABLES)
            known = [row[0] for row in database.execute("SELECT fingerprint FROM settings")]
            if not known:
                database.execute("INSERT INTO settings VALUES (?)", [made])
            elif known != [made]:
                raise MedllmError(
                    f"{folder} holds signatures of other settings ({known[0]}, now {made}): "
                    "restore the settings, or remove the folder and give all rows again"
                )

    @property
    def empty(self) -> bool:
        """Whether nothing is remembered yet."""
        with self._database() as database:
            return database.execute("SELECT id FROM rows LIMIT 1").fetchone() is None

    @property
    def last_step(self) -> str:
        """The name of the step that was told of last; empty if none was."""
        with self._database() as database:
            found = database.execute("SELECT name FROM steps").fetchone()
        return str(found[0]) if found else ""

    def by_id(self, ids: pa.Array) -> pa.Table:
        """The rows with these ids."""
        return self._rows("id", ids)

    def by_content(self, contents: pa.Array) -> pa.Table:
        """The rows with these content hashes."""
        return self._rows("content", contents)

    def by_cluster(self, clusters: pa.Array) -> pa.Table:
        """The rows of these clusters."""
        return self._rows("cluster", clusters)

    def meetings(self, contents: pa.Array, keys: Sequence[Keys], neighbours: int) -> tuple[Indices, pa.Array]:
        """Remembered texts that share a band's key with new ones."""
        others: list[Indices] = [np.empty(0, np.int64)]
        found = [pa.array([], CONTENT)]
        for segment in self._segments():
            new, hashes = segment.meetings(contents, keys, neighbours)
            others.append(new)
            found.append(hashes)
        return np.concatenate(others), pa.concat_arrays(found)

    def texts(self, contents: pa.Array) -> tuple[npt.NDArray[np.uint8], list[str]]:
        """The codes and texts of remembered contents."""
        codes = np.zeros(len(contents), np.uint8)
        texts = [""] * len(contents)
        missing = np.arange(len(contents))
        for segment in self._segments():
            places = segment.places(contents.take(pa.array(missing)))
            here = places >= 0
            for one, place in zip(missing[here].tolist(), places[here].tolist(), strict=True):
                codes[one], texts[one] = segment.text(place)
            missing = missing[~here]
        if len(missing):
            lost = contents[int(missing[0])].as_py().hex()
            raise MedllmError(f"{self._folder} lost the text of content {lost}: remove it and give all rows again")
        return codes, texts

    def apply(self, change: Change) -> None:
        """Write the segment first, then rows and segment numbers in one transaction, which is what counts."""
        with self._database() as database:
            old = dict(database.execute("SELECT number, texts FROM segments").fetchall())
            number = max(old, default=0) + 1
            database.execute("BEGIN IMMEDIATE")
            self._write_rows(database, change)
            new = old
            if len(change.contents.hashes):
                write_segment(self._path(number), change.contents, self._bands)
                new = self._merged(database, old, number)
            database.execute("DELETE FROM segments")
            database.executemany("INSERT INTO segments VALUES (?, ?)", new.items())
            database.execute("DELETE FROM steps")
            database.execute("INSERT INTO steps VALUES (?)", [self._step])
            database.execute("COMMIT")
        for path in (self._folder / "segments").glob("*"):
            if path.name not in {self._path(one).name for one in new}:
                remove(path)

    def _merged(self, database: sqlite3.Connection, old: dict[int, int], number: int) -> dict[int, int]:
        """The segments with a new one: it takes in those not larger than what it has become by then.

        So there are no more than the logarithm of the number of steps. Texts without a row are left behind.
        """
        size = Segment(self._path(number)).size
        taken: list[int] = []
        for one in sorted(old, key=lambda one: old[one]):
            if old[one] > size:
                break
            taken.append(one)
            size += old[one]
        kept = {one: texts for one, texts in old.items() if one not in taken}
        if not taken:
            return {**kept, number: size}
        inputs = [Segment(self._path(one)) for one in [*taken, number]]
        _want(database, [bytes(row) for segment in inputs for row in as_hashes(segment.hashes()).to_pylist()])
        alive = database.execute(
            "SELECT value FROM wanted WHERE EXISTS (SELECT 1 FROM rows WHERE content = value) ORDER BY value"
        )
        merge_segments(self._path(number + 1), inputs, pa.array([row[0] for row in alive], CONTENT), self._bands)
        return {**kept, number + 1: Segment(self._path(number + 1)).size}

    def _write_rows(self, database: sqlite3.Connection, change: Change) -> None:
        many = change.rows.num_rows > database.execute("SELECT count(*) FROM rows").fetchone()[0] // 4
        if many:
            for name in _INDICES:
                database.execute(f"DROP INDEX IF EXISTS {name}")
        database.executemany("DELETE FROM rows WHERE id = ?", ([one.as_py()] for one in change.gone))
        places = ", ".join("?" * len(KNOWN_ROWS))
        for batch in change.rows.to_batches(max_chunksize=10_000):
            rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
            database.executemany(f"INSERT OR REPLACE INTO rows ({_COLUMNS}) VALUES ({places})", rows)
        for name, column in _INDICES.items():
            database.execute(f"CREATE INDEX IF NOT EXISTS {name} ON rows ({column})")

    def _rows(self, column: str, values: pa.Array) -> pa.Table:
        if self.empty:
            return KNOWN_ROWS.empty_table()
        with self._database() as database:
            _want(database, pc.unique(values).to_pylist())
            found = database.execute(
                f"SELECT {_COLUMNS} FROM wanted CROSS JOIN rows ON rows.{column} = wanted.value ORDER BY id"
            ).fetchall()
        columns = list(zip(*found, strict=True)) or [() for _ in KNOWN_ROWS]
        arrays = [
            pa.array([bool(value) for value in column] if field.type == pa.bool_() else column, field.type)
            for column, field in zip(columns, KNOWN_ROWS, strict=True)
        ]
        return pa.table(arrays, schema=KNOWN_ROWS)

    def _segments(self) -> Iterator[Segment]:
        with self._database() as database:
            numbers = [row[0] for row in database.execute("SELECT number FROM segments ORDER BY number DESC")]
        for number in numbers:
            yield Segment(self._path(number))

    def _path(self, number: int) -> Path:
        return self._folder / "segments" / f"{number:06}"

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self._folder / "rows.sqlite", isolation_level=None)) as database:
                database.execute("PRAGMA temp_store = MEMORY")
                yield database
        except sqlite3.DatabaseError as error:
            raise MedllmError(f"{self._folder}: {error}; remove the folder and give all rows again") from error
