"""Bring raw files into the corpus, each exactly once and as a whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from medllm_ops.corpus import lease as leases
from medllm_ops.corpus import manifest as manifests
from medllm_ops.corpus.changes import COLUMNS, Changes, Event, member_of
from medllm_ops.corpus.items import Chunk, read_chunks
from medllm_ops.corpus.manifest import CorpusError, SourceState, Staging
from medllm_ops.corpus.schema import CONTENT_NAMES, EVENTS, FILES, MEMBERS, RECORDS, REJECTS, SCHEMAS
from medllm_ops.corpus.storage import Storage
from medllm_ops.corpus.table import Table
from medllm_ops.fetch.base import FetchedFile, Known
from medllm_ops.records import LedgerEntry

_TOMBSTONE_ROWS = 4096
_STATE = ("id", "version", "retracted", "deleted", "hash")


@dataclass(frozen=True, slots=True)
class Applied:
    """What a raw file did: its ledger, and how many records it added, changed, deleted, retracted and so on."""

    name: str
    ledger: LedgerEntry
    events: Counter[str]
    version: int


@contextmanager
def open_writer(storage: Storage, source: str, wait: float = 0) -> Iterator[Writer]:
    """The only writer of a source's tables, for as long as the block runs.

    :param wait: seconds to wait for another writer to end.
    :raises LeaseError: naming the other writer.
    """
    with leases.hold(storage, source, wait) as lease:
        yield Writer(storage, source, lease)


@dataclass(slots=True)
class _File:
    """A raw file on its way in."""

    raw: FetchedFile
    date: str
    number: int
    ledger: LedgerEntry
    events: Counter[str] = field(default_factory=Counter)


class Writer:
    """Applies raw files to one source; made by :func:`open_writer`."""

    def __init__(self, storage: Storage, source: str, lease: leases.Lease) -> None:
        self._storage = storage
        self._source = source
        self._lease = lease
        self._state = self._published = manifests.read(storage).source(source)
        self._tables = _tables(storage, source, self._state.head)

    @property
    def known(self) -> Known:
        """What the fetcher needs to find out what is new."""
        files: dict[str, str] = {}
        watermark: dict[str, Any] = {}
        for batch in self._tables["files"].scan(("name", "checksum", "watermark")):
            for row in batch.to_pylist():
                files[row["name"]] = row["checksum"]
                if row["watermark"]:
                    watermark = orjson.loads(row["watermark"])
        staging = self._state.staging
        return Known(
            files={name: checksum for name, checksum in files.items() if checksum},
            watermark=watermark,
            generation=staging.generation if staging else self._state.generation,
        )

    @property
    def next_number(self) -> int:
        """The number that the next raw file gets, from 1."""
        return self._state.files + 1

    def apply(
        self,
        raw: FetchedFile,
        items: Path | None,
        sha256: str = "",
        date: str = "",
        not_sampled: Mapping[str, int] | None = None,
    ) -> Applied:
        """Apply one raw file and make the next version of the corpus.

        :param items: what was parsed from it, as :func:`~medllm_ops.corpus.items.write_items` wrote it.
        :param date: of the facts; now by default.
        :param not_sampled: counts by reason of what was left out before.
        :raises LedgerError: if the counts do not balance.
        :raises LeaseError: if another writer took over.
        :raises CorpusError: if another process wrote to the tables.
        """
        self._lease.check()
        staging = self._state.staging
        if staging and raw.generation != staging.generation:
            self._abandon_staging()
        is_new_generation = self._is_new_generation(raw)
        group = f"generation {raw.generation}" if is_new_generation else raw.name
        file = _File(raw, date or manifests.now(), self.next_number, LedgerEntry(f"corpus {self._source}"))
        members = [np.empty(0, np.int64)]
        for chunk in read_chunks(items) if items else ():
            members.append(self._apply_chunk(file, chunk))
            if is_new_generation:
                self._tables["members"].append(_with_file(members.pop(), group))
        for reason, rows in (not_sampled or {}).items():
            file.ledger.rows_in += rows
            file.ledger.drop(reason, rows)
        if is_new_generation and raw.generation_complete:
            here = np.sort(self._members(f"file = '{_quoted(group)}'"))
            self._remove(file, f"not in {raw.generation}", lambda found: ~_is_in(found, here))
            self._tables["members"].delete(f"file = '{_quoted(group)}'")
        elif not is_new_generation and (raw.whole or raw.path is None):
            self._replace_members(file, np.concatenate(members))
        file.ledger.check()
        self._append("files", FILES, [self._file_row(file, sha256)])
        for table in self._tables.values():
            table.compact()
        return Applied(raw.name, file.ledger, file.events, self._publish(self._following(raw, is_new_generation)))

    def compact(self) -> None:
        """Join small fragments of all tables, and make the next version of the corpus if any were."""
        compacted = [table.compact(always=True) for table in self._tables.values()]
        if any(compacted):
            tables = {name: table.version for name, table in self._tables.items()}
            staging = self._state.staging
            update = {"staging": staging.model_copy(update={"tables": tables})} if staging else {"tables": tables}
            self._publish(self._state.model_copy(update={**update, "token": self._lease.token}))

    def _is_new_generation(self, raw: FetchedFile) -> bool:
        if not raw.generation or raw.generation == self._state.generation:
            return False
        return bool(self._state.generation or self._tables["records"].rows())

    def _abandon_staging(self) -> None:
        """Forget a generation that was never completed: its publisher has another one now."""
        self._state = self._state.model_copy(update={"staging": None})
        self._tables = _tables(self._storage, self._source, self._state.tables)

    def _apply_chunk(self, file: _File, chunk: Chunk) -> npt.NDArray[np.int64]:
        """Write what the items change; return which records they hold."""
        looked_at = chunk.columns(("number", *COLUMNS))
        ids = looked_at["id"].drop_null().unique().to_pylist()
        before = self._tables["records"].find(_STATE, "id", ids)
        changes = Changes(looked_at, before.to_pylist(), file.ledger, file.events)
        self._write(file, chunk.rows(CONTENT_NAMES, changes.upserts), changes.deleted, changes.events)
        if len(changes.rejected):
            said = {"number": file.number, "file": file.raw.name}
            rejects = chunk.rows(REJECTS.names[2:], changes.rejected)
            self._append("rejects", REJECTS, [said | row for batch in rejects for row in batch.to_pylist()])
        return np.fromiter(map(member_of, changes.members), np.int64, len(changes.members))

    def _write(
        self, file: _File, rows: Iterator[pa.RecordBatch], deleted: Mapping[str, str], events: Sequence[Event]
    ) -> None:
        """Upsert records and tombstones, and note the facts."""
        batches = [_stamped(batch, pa.nulls(len(batch), pa.string()), file) for batch in rows]
        if deleted:
            found = self._tables["records"].find(CONTENT_NAMES, "id", list(deleted))
            for column in ("text", "messages", "rejected_response", "hash"):  # what was withdrawn goes
                at = found.schema.get_field_index(column)
                found = found.set_column(at, found.schema.field(at), pa.nulls(len(found), found.schema.field(at).type))
            for batch in found.to_batches():
                reasons = [deleted[record_id] for record_id in batch["id"].to_pylist()]
                batches.append(_stamped(batch, pa.array(reasons, pa.string()), file))
        if batches:
            self._tables["records"].upsert(pa.Table.from_batches(batches))
        if events:
            ids, names, versions, digests = zip(*events, strict=True)
            said = pa.repeat(file.date, len(events)), pa.repeat(file.raw.name, len(events))
            arrays = [
                pa.array(ids),
                pa.array(names),
                pa.array(versions, pa.int32()),
                *said,
                pa.array(digests, pa.binary(16)),
            ]
            self._tables["events"].append(pa.Table.from_arrays(arrays, schema=EVENTS))

    def _replace_members(self, file: _File, members: npt.NDArray[np.int64]) -> None:
        """Take out the records that only this file held, and no longer holds."""
        here = f"file = '{_quoted(file.raw.name)}'"
        gone = np.setdiff1d(self._members(here), members)
        if len(gone):
            gone = np.setdiff1d(gone, self._members(f"NOT ({here})"))
        if len(gone):
            reason = "its file was removed" if file.raw.path is None else "no longer in its file"
            self._remove(file, reason, lambda found: _is_in(found, gone))
        self._tables["members"].delete(here)
        if len(members):
            self._tables["members"].append(_with_file(members, file.raw.name))

    def _remove(
        self, file: _File, reason: str, is_gone: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.bool_]]
    ) -> None:
        """Delete the living records whose members are gone."""
        gone: list[tuple[str, int]] = []
        for batch in self._tables["records"].scan(("id", "version"), "deleted IS NULL"):
            members = np.fromiter(map(member_of, batch["id"].to_pylist()), np.int64, len(batch))
            chosen = batch.filter(pa.array(is_gone(members)))
            gone += zip(chosen["id"].to_pylist(), chosen["version"].to_pylist(), strict=True)
        for start in range(0, len(gone), _TOMBSTONE_ROWS):
            some = gone[start : start + _TOMBSTONE_ROWS]
            file.events["removed"] += len(some)
            events = [(record_id, "removed", version, None) for record_id, version in some]
            self._write(file, iter(()), {record_id: reason for record_id, _ in some}, events)

    def _members(self, where: str) -> npt.NDArray[np.int64]:
        batches = [batch["member"].to_numpy() for batch in self._tables["members"].scan(("member",), where)]
        return np.concatenate([np.empty(0, np.int64), *batches])

    def _append(self, table: str, schema: pa.Schema, rows: list[dict[str, Any]]) -> None:
        if rows:
            self._tables[table].append(pa.Table.from_pylist(rows, schema))

    def _file_row(self, file: _File, sha256: str) -> dict[str, Any]:
        raw = file.raw
        return {
            "number": file.number,
            "name": raw.name,
            "checksum": raw.checksum if raw.path is not None else "",
            "sha256": sha256,
            "url": raw.url,
            "generation": raw.generation,
            "date": file.date,
            "watermark": None if raw.watermark is None else orjson.dumps(raw.watermark).decode(),
            "ledger": orjson.dumps({**file.ledger.to_row(), "events": dict(sorted(file.events.items()))}).decode(),
        }

    def _following(self, raw: FetchedFile, is_new_generation: bool) -> SourceState:
        """The state after a raw file."""
        before = self._state
        tables = {name: table.version for name, table in self._tables.items()}
        is_staged = is_new_generation and not raw.generation_complete
        return SourceState(
            tables=before.tables if is_staged else tables,
            generation=before.generation if is_staged else raw.generation or before.generation,
            token=self._lease.token,
            files=before.files + 1,
            staging=Staging(generation=raw.generation, tables=tables) if is_staged else None,
        )

    def _publish(self, state: SourceState) -> int:
        before = self._published

        def change(latest: SourceState) -> SourceState:
            if latest != before:
                raise CorpusError(f"another process published a version of {self._source} meanwhile: run it again")
            return state

        self._lease.check()
        published = manifests.publish(self._storage, self._source, change)
        self._state = self._published = state
        return published.version


def _tables(storage: Storage, source: str, versions: Mapping[str, int]) -> dict[str, Table]:
    """The tables at these versions, and nothing beyond them."""
    tables = {
        name: Table(storage, f"tables/{source}/{name}", SCHEMAS[name], versions.get(name, 0))
        for name in manifests.TABLES
    }
    for table in tables.values():
        table.reset()
    return tables


def _stamped(batch: pa.RecordBatch, deleted: pa.Array, file: _File) -> pa.RecordBatch:
    rows = len(batch)
    columns = [*batch.columns, deleted, pa.repeat(file.raw.name, rows), pa.repeat(file.date, rows)]
    return pa.RecordBatch.from_arrays(columns, schema=RECORDS)


def _with_file(members: npt.NDArray[np.int64], name: str) -> pa.Table:
    return pa.Table.from_arrays([pa.repeat(name, len(members)), pa.array(members)], schema=MEMBERS)


def _is_in(values: npt.NDArray[np.int64], ascending: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    if not len(ascending):
        return np.zeros(len(values), np.bool_)
    places = np.searchsorted(ascending, values).clip(max=len(ascending) - 1)
    found: npt.NDArray[np.bool_] = ascending[places] == values
    return found


def _quoted(text: str) -> str:
    return text.replace("'", "''")
