"""One versioned table, on Lance (https://lance.org); nothing else in the house knows Lance.

A table knows the version it stands on. Each write makes the next one; a write that finds another writer's version in
between refuses itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, TypeAlias

import lance
import pyarrow as pa
import pyarrow.compute  # used as pa.compute
from lance.optimize import Compaction

from medllm_ops.corpus.manifest import CorpusError
from medllm_ops.corpus.storage import Storage

# Lance reads far ahead by default: the memory of a scan then follows the machine, not the data.
_SCAN = {"io_buffer_size": 64 << 20, "batch_readahead": 1, "fragment_readahead": 1, "scan_in_order": True}
_BATCH_ROWS = 2048
_NARROW_BATCH_ROWS = 1 << 16
_TAKE_ROWS = 1024
_FEW = 4096
_SMALL_FRAGMENTS = 64
# To copy the pages of fragments without deletions costs a fifteenth of decoding and encoding them.
_COMPACTION = {"target_rows_per_fragment": 1 << 20, "batch_size": _BATCH_ROWS, "compaction_mode": "try_binary_copy"}
_ROW_ID = "_rowid"
_PLACE_IN_SOURCE = re.compile(r",? \S+\.rs:\d+:\d+")

_Fragment: TypeAlias = tuple[tuple[str, ...], str]


class Table:
    """A table at one of its versions; version 0 is the empty table that does not exist yet.

    Every method raises :class:`CorpusError` if the table cannot be read or written.
    """

    def __init__(self, storage: Storage, name: str, schema: pa.Schema, version: int) -> None:
        self.name = name
        self.schema = schema
        self.version = version
        self._uri, self._options = storage.table(f"{name}.lance")
        self._data: Any = self._open(version) if version else None

    def _open(self, version: int | None) -> Any:
        with self._said("read"):
            return lance.dataset(self._uri, version=version, storage_options=self._options)

    @contextmanager
    def _said(self, verb: str) -> Iterator[None]:
        """Turn Lance's errors into a sentence."""
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            said = _PLACE_IN_SOURCE.sub("", str(error)).rstrip(" .")
            remedy = "; nothing of this work was published: run it again" if verb == "written" else ""
            raise CorpusError(f"table {self._uri}, version {self.version}, cannot be {verb}: {said}{remedy}") from error

    # --- reading ---

    def rows(self, where: str | None = None) -> int:
        """How many rows there are."""
        with self._said("read"):
            return int(self._data.count_rows(where)) if self.version else 0

    def scan(
        self,
        columns: Sequence[str],
        where: str | None = None,
        *,
        narrow: bool = False,
        row_ids: bool = False,
        skip: int = 0,
        beside: Table | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """The rows in batches, in bounded memory, in the table's order.

        :param narrow: these columns hold little, so that a batch may have more rows.
        :param row_ids: add the column ``_rowid``, for :meth:`in_order`.
        :param skip: leave so many rows out at the begin, unread.
        :param beside: another version of the table: leave out, unread, the fragments that it has, too. What was
            written since then is in the others; so are older rows, once fragments were joined.
        """
        if not self.version:
            return
        options: dict[str, Any] = {"batch_size": _NARROW_BATCH_ROWS if narrow else _BATCH_ROWS, "with_row_id": row_ids}
        with self._said("read"):
            if beside is not None and beside.version:
                known = {_files(fragment.metadata) for fragment in beside._data.get_fragments()}
                new = [one for one in self._data.get_fragments() if _files(one.metadata) not in known]
                if not new:
                    return
                options["fragments"] = new
            if skip:
                options["offset"] = skip
            yield from self._scanner(columns, where, **options).to_batches()

    def _scanner(self, columns: Sequence[str], where: str | None, **options: Any) -> Any:
        return self._data.scanner(columns=list(columns), filter=where, **options, **_SCAN)

    def find(self, columns: Sequence[str], key: str, values: Sequence[str]) -> pa.Table:
        """The rows whose ``key`` is one of ``values``, in the table's order.

        For more than a few values these columns of all rows are read: name narrow ones.
        """
        names = list(columns)
        schema = pa.schema([self.schema.field(name) for name in names])
        if not values:
            return schema.empty_table()
        if len(values) <= _FEW:
            where = f"{key} IN ({', '.join(map(quoted, values))})"
            return pa.Table.from_batches(self.scan(names, where), schema)
        wanted = pa.array(values, pa.string())
        read = names if key in names else [*names, key]
        batches = (
            batch.filter(pa.compute.is_in(batch[key], value_set=wanted)).select(names)
            for batch in self.scan(read, narrow=True)
        )
        return pa.Table.from_batches(batches, schema)

    def find_places(self, columns: Sequence[str], key: str, value: str) -> tuple[list[int], list[dict[str, Any]]]:
        """The rows whose ``key`` is ``value``, and how many rows stand before each; of a table without deletions."""
        found = pa.Table.from_batches(
            self.scan(columns, f"{key} = {quoted(value)}", row_ids=True),
            pa.schema([*(self.schema.field(name) for name in columns), pa.field(_ROW_ID, pa.uint64())]),
        )
        if not found:
            return [], []
        before, rows = {}, 0
        for fragment in self._data.get_fragments():
            before[fragment.fragment_id] = rows
            rows += fragment.count_rows()
        # A row's id is its fragment's and its place there: https://lance.org/format/table/row_id_lineage
        places = [before[number >> 32] + (number & 0xFFFFFFFF) for number in found[_ROW_ID].to_pylist()]
        return places, found.drop([_ROW_ID]).to_pylist()

    def in_order(self, columns: Sequence[str], row_ids: pa.ChunkedArray) -> Iterator[pa.Table]:
        """The rows that a scan of the same version gave these ids, in this order, some at a time."""
        for start in range(0, len(row_ids), _TAKE_ROWS):
            some = row_ids.slice(start, _TAKE_ROWS).combine_chunks()
            # Not by Dataset.take: with deleted rows about, it needs a millisecond a row to find the place.
            where = f"{_ROW_ID} IN ({', '.join(map(str, some.to_pylist()))})"
            with self._said("read"):
                found = self._scanner(columns, where, with_row_id=True).to_table()
            yield found.take(pa.compute.index_in(some, value_set=found[_ROW_ID].combine_chunks())).drop([_ROW_ID])

    # --- writing ---

    def reset(self) -> None:
        """Undo what lies beyond the version this table stands on: a killed writer's."""
        if not self.version:
            if not self._exists():
                return
            # Nothing of the table was ever published.
            with self._said("written"):
                self._data = lance.write_dataset(
                    self.schema.empty_table(), self._uri, mode="overwrite", storage_options=self._options
                )
        else:
            latest = self._open(None)
            if latest.version == self.version:
                return
            with self._said("written"):
                self._data = latest.checkout_version(self.version)
                self._data.restore()
        self.version = int(self._data.version)

    def _exists(self) -> bool:
        try:
            lance.dataset(self._uri, storage_options=self._options)
        except ValueError:  # what Lance raises for a missing table
            return False
        return True

    def append(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Add rows, batch by batch in bounded memory; without a batch nothing is written.

        :raises CorpusError: if another writer came in between.
        """
        stream = iter(batches)
        first = next(stream, None)
        if first is None:
            return
        reader = pa.RecordBatchReader.from_batches(self.schema, chain([first], stream))
        with self._said("written"):
            mode, target = ("append", self._data) if self.version else ("create", self._uri)
            data = lance.write_dataset(reader, target, mode=mode, storage_options=self._options)
        self._step(data)

    def upsert(self, present: Sequence[str], batches: Iterable[pa.RecordBatch]) -> None:
        """Add rows; those with the ids ``present`` go before.

        :param present: all ids of the new rows that the table has.
        :raises CorpusError: if another writer came in between.
        """
        if present:
            # Faster than one merge_insert that updates: the texts take no part in the join.
            ids = pa.table({"id": pa.array(present, pa.string())})
            with self._said("written"):
                self._data.merge_insert("id").when_matched_delete().conflict_retries(0).execute(ids)
            self._step(self._data)
        self.append(batches)

    def delete(self, where: str) -> None:
        """Take out the rows that the condition names.

        :raises CorpusError: if another writer came in between.
        """
        if self.rows(where):
            with self._said("written"):
                self._data.delete(where, conflict_retries=0)
            self._step(self._data)

    def _step(self, data: Any) -> None:
        if data.version != self.version + 1:
            raise self._disturbed(data)
        self._data, self.version = data, int(data.version)

    def _disturbed(self, data: Any) -> CorpusError:
        return CorpusError(
            f"another process wrote to {self._uri} (version {data.version} came after {self.version}); "
            f"nothing of this work was published: run it again"
        )

    def compact(self, always: bool = False) -> bool:
        """Join small fragments; the rows stay as they are. Without ``always``, only when they have become many.

        :return: whether there was anything to do.
        :raises CorpusError: if another writer came in between.
        """
        if not self.version or not (always or len(self._data.get_fragments()) > _SMALL_FRAGMENTS):
            return False
        with self._said("written"):
            tasks = Compaction.plan(self._data, _COMPACTION).tasks
            rewritten = [task.execute(self._data) for task in tasks]
            if not rewritten:
                return False
            expected = _fragments(fragment.metadata for fragment in self._data.get_fragments())
            for result in rewritten:
                expected = expected - _fragments(result.original_fragments) | _fragments(result.new_fragments)
            Compaction.commit(self._data, rewritten)
            data = self._open(None)
        # It makes more than one version, so the fragments say whether another writer's rows are among them.
        if _fragments(fragment.metadata for fragment in data.get_fragments()) != expected:
            raise self._disturbed(data)
        self._data, self.version = data, int(data.version)
        return True

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
        with self._said("cleaned"):
            return int(latest.cleanup_old_versions(versions=old, delete_unverified=True).bytes_removed)


def _fragments(metadata: Iterable[Any]) -> set[_Fragment]:
    return {(_files(one), str(one.deletion_file)) for one in metadata}


def _files(metadata: Any) -> tuple[str, ...]:
    return tuple(file.path for file in metadata.files)


def quoted(text: str) -> str:
    """The text as a constant in a condition."""
    return "'" + text.replace("'", "''") + "'"
