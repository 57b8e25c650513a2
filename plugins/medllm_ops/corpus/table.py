"""One versioned table, on Lance (https://lance.org); nothing else in the house knows Lance.

A table knows the version it stands on. Each write makes the next one; a write that finds another writer's version in
between refuses itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import lance
import pyarrow as pa

from medllm_ops.corpus.manifest import CorpusError
from medllm_ops.corpus.storage import Storage

# Lance reads far ahead by default: the memory of a scan then follows the machine, not the data.
_SCAN = {"io_buffer_size": 64 << 20, "batch_readahead": 1, "fragment_readahead": 1, "scan_in_order": True}
_BATCH_ROWS = 2048
_TAKE_ROWS = 1024
_SMALL_FRAGMENTS = 64
_FRAGMENT_ROWS = 1 << 20


class Table:
    """A table at one of its versions; version 0 is the empty table that does not exist yet."""

    def __init__(self, storage: Storage, name: str, schema: pa.Schema, version: int) -> None:
        self.name = name
        self.schema = schema
        self.version = version
        self._uri, self._options = storage.table(f"{name}.lance")
        self._data: Any = self._open(version) if version else None

    def _open(self, version: int | None) -> Any:
        try:
            return lance.dataset(self._uri, version=version, storage_options=self._options)
        except (ValueError, OSError) as error:
            raise CorpusError(f"table {self._uri}, version {version or 'latest'}, cannot be read: {error}") from error

    def rows(self, where: str | None = None) -> int:
        """How many rows there are."""
        return int(self._data.count_rows(where)) if self.version else 0

    def scan(self, columns: Sequence[str], where: str | None = None) -> Iterator[pa.RecordBatch]:
        """The rows in batches, in bounded memory, in the table's order."""
        if self.version:
            yield from self._data.scanner(
                columns=list(columns), filter=where, batch_size=_BATCH_ROWS, **_SCAN
            ).to_batches()

    def find(self, columns: Sequence[str], key: str, values: Sequence[str]) -> pa.Table:
        """The rows whose ``key`` is one of ``values``."""
        schema = pa.schema([self.schema.field(name) for name in columns])
        if not self.version or not values:
            return schema.empty_table()
        quoted = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
        return self._data.scanner(columns=list(columns), filter=f"{key} IN ({quoted})", **_SCAN).to_table()

    def in_order(self, columns: Sequence[str], positions: pa.Array) -> Iterator[pa.Table]:
        """The rows at these positions of a scan without a filter, in this order, some at a time."""
        for start in range(0, len(positions), _TAKE_ROWS):
            yield self._data.take(positions.slice(start, _TAKE_ROWS), columns=list(columns))

    # --- writing ---

    def reset(self) -> None:
        """Undo what lies beyond the version this table stands on: a killed writer's."""
        if not self.version:
            if not self._exists():
                return
            # Nothing of the table was ever published.
            self._data = lance.write_dataset(
                self.schema.empty_table(), self._uri, mode="overwrite", storage_options=self._options
            )
        else:
            latest = self._open(None)
            if latest.version == self.version:
                return
            self._data = latest.checkout_version(self.version)
            self._data.restore()
        self.version = int(self._data.version)

    def _exists(self) -> bool:
        try:
            lance.dataset(self._uri, storage_options=self._options)
        except ValueError:  # what Lance raises for a missing table
            return False
        return True

    def append(self, rows: pa.Table) -> None:
        """Add rows.

        :raises CorpusError: if another writer came in between.
        """
        mode = "append" if self.version else "create"
        target = self._data if self.version else self._uri
        self._step(lance.write_dataset(rows, target, mode=mode, storage_options=self._options))

    def upsert(self, rows: pa.Table) -> None:
        """Put each row in place of the one with its id, or add it.

        :raises CorpusError: if another writer came in between.
        """
        if not self.version:
            self.append(rows)
            return
        builder = self._data.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
        builder.conflict_retries(0).execute(rows)
        self._step(self._data)

    def delete(self, where: str) -> None:
        """Take out the rows that the condition names.

        :raises CorpusError: if another writer came in between.
        """
        if self.rows(where):
            self._data.delete(where, conflict_retries=0)
            self._step(self._data)

    def _step(self, data: Any) -> None:
        if data.version != self.version + 1:
            raise CorpusError(
                f"another process wrote to {self._uri} (version {data.version} came after {self.version}); "
                f"nothing of this work was published: run it again"
            )
        self._data, self.version = data, int(data.version)

    def compact(self, always: bool = False) -> bool:
        """Join small fragments; the rows stay as they are. Without ``always``, only when they have become many."""
        if not self.version or not (always or len(self._data.get_fragments()) > _SMALL_FRAGMENTS):
            return False
        before = self._data.version
        self._data.optimize.compact_files(target_rows_per_fragment=_FRAGMENT_ROWS, batch_size=_BATCH_ROWS)
        self._data = self._open(None)
        self.version = int(self._data.version)
        return bool(self._data.version != before)

    def clean(self, keep: set[int]) -> int:
        """Delete all versions but ``keep`` and the latest, with the files that only they need.

        :return: bytes freed.
        """
        if not self._exists():
            return 0
        latest = self._open(None)
        old = [entry["version"] for entry in latest.versions() if entry["version"] not in keep | {latest.version}]
        if not old:
            return 0
        return int(latest.cleanup_old_versions(versions=old, delete_unverified=True).bytes_removed)
