"""Bring raw files into the corpus, each exactly once and as a whole."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from medllm_ops.corpus import lease as leases
from medllm_ops.corpus import manifest as manifests
from medllm_ops.corpus.changes import COLUMNS, STATE, Changes, Event, member_of
from medllm_ops.corpus.items import Chunk, lean_memory, read_chunks
from medllm_ops.corpus.manifest import CorpusError, SourceState, Staging
from medllm_ops.corpus.rows import KEPT_OF_DELETED, facts, living, memberships, raw_file, rejected, tombstones
from medllm_ops.corpus.schema import CONTENT_NAMES, REJECTS, SCHEMAS
from medllm_ops.corpus.storage import Storage
from medllm_ops.corpus.table import Table, quoted
from medllm_ops.fetch.base import FetchedFile, Known
from medllm_ops.records import LedgerEntry

_TOMBSTONE_ROWS = 4096
_SOURCE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Applied:
    """What a raw file did: its ledger, how many records it added, changed, deleted and so on, and its rejects."""

    name: str
    ledger: LedgerEntry
    events: Counter[str]
    rejects: int
    version: int


@contextmanager
def open_writer(storage: Storage, source: str, wait: float = 0) -> Iterator[Writer]:
    """The only writer of a source's tables, for as long as the block runs.

    :param wait: seconds to wait for another writer to end.
    :raises LeaseError: naming the other writer.
    :raises CorpusError: if the source's name cannot be that of a folder.
    """
    if not _SOURCE_NAME.fullmatch(source):
        raise CorpusError(f"a source's name is lower-case letters, digits, '_', '-' and '.'; {source!r} is not")
    with leases.hold(storage, source, wait) as lease, lean_memory():
        yield Writer(storage, source, lease)


@dataclass(slots=True)
class _File:
    """A raw file on its way in."""

    raw: FetchedFile
    date: str
    number: int
    ledger: LedgerEntry
    events: Counter[str] = field(default_factory=Counter)
    rejects: int = 0


class Writer:
    """Applies raw files to one source; made by :func:`open_writer`."""

    def __init__(self, storage: Storage, source: str, lease: leases.Lease) -> None:
        self._storage = storage
        self._source = source
        self._lease = lease
        self._state = self._published = manifests.read(storage).source(source)
        self._tables = _tables(storage, source, self._state.head)
        self._is_whole = True

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

    def check(self) -> None:
        """Make sure that nobody took over; before anything is written beside the tables.

        :raises LeaseError: naming who did.
        """
        self._lease.check()

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
        _check_name(raw.name)
        self._lease.check()
        if not self._is_whole:  # the file before broke off: nothing of it may stay
            self._tables = _tables(self._storage, self._source, self._state.head)
        self._is_whole = False
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
                self._tables["members"].append(memberships(members.pop(), group))
        for reason, rows in (not_sampled or {}).items():
            file.ledger.rows_in += rows
            file.ledger.drop(reason, rows)
        if is_new_generation and raw.generation_complete:
            here = np.sort(self._members(f"file = {quoted(group)}"))
            self._remove(file, f"not in {raw.generation}", lambda found: ~_is_in(found, here))
            self._tables["members"].delete(f"file = {quoted(group)}")
        elif not is_new_generation and (raw.whole or raw.path is None):
            self._replace_members(file, np.unique(np.concatenate(members)))
        counts = {"events": dict(sorted(file.events.items())), "rejects": file.rejects}
        ledger = {**file.ledger.check().to_row(), **counts}
        self._tables["files"].append([raw_file(raw, file.number, file.date, sha256, ledger)])
        for table in self._tables.values():
            table.compact()
        version = self._publish(self._following(raw, is_new_generation))
        self._is_whole = True
        return Applied(raw.name, file.ledger, file.events, file.rejects, version)

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
        changes = Changes(looked_at, self._tables["records"].find(STATE, "id", ids), file.ledger, file.events)
        name, date = file.raw.name, file.date
        dead = [tombstones(rows, changes.deleted, name, date) for rows in chunk.rows(KEPT_OF_DELETED, changes.buried)]
        buried = {record_id for batch in dead for record_id in batch["id"].to_pylist()}
        dead += self._tombstones(file, {key: why for key, why in changes.deleted.items() if key not in buried})
        alive = (living(rows, name, date) for rows in chunk.rows(CONTENT_NAMES, changes.upserts))
        self._tables["records"].upsert(changes.present, chain(alive, dead))
        self._tables["events"].append(facts(changes.events, name, date))
        rejects = chunk.rows(REJECTS.names[2:], changes.rejected)
        self._tables["rejects"].append(rejected(batch, file.number, name) for batch in rejects)
        file.rejects += len(changes.rejected)
        return np.fromiter(map(member_of, changes.members), np.int64, len(changes.members))

    def _tombstones(self, file: _File, reasons: Mapping[str, str]) -> Iterator[pa.RecordBatch]:
        """Tombstones of records that the corpus has."""
        ids = list(reasons)
        for start in range(0, len(ids), _TOMBSTONE_ROWS):
            found = self._tables["records"].find(KEPT_OF_DELETED, "id", ids[start : start + _TOMBSTONE_ROWS])
            for batch in found.to_batches():
                yield tombstones(batch, reasons, file.raw.name, file.date)

    def _replace_members(self, file: _File, members: npt.NDArray[np.int64]) -> None:
        """Take out the records that only this file held, and no longer holds."""
        here = f"file = {quoted(file.raw.name)}"
        gone = np.setdiff1d(self._members(here), members)
        if len(gone):
            gone = np.setdiff1d(gone, self._members(f"NOT ({here})"))
        if len(gone):
            reason = "its file was removed" if file.raw.path is None else "no longer in its file"
            self._remove(file, reason, lambda found: _is_in(found, gone))
        self._tables["members"].delete(here)
        self._tables["members"].append(memberships(members, file.raw.name))

    def _remove(
        self, file: _File, reason: str, is_gone: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.bool_]]
    ) -> None:
        """Delete the living records whose members are gone."""
        gone: list[tuple[str, int]] = []
        for batch in self._tables["records"].scan(("id", "version"), "deleted IS NULL", narrow=True):
            members = np.fromiter(map(member_of, batch["id"].to_pylist()), np.int64, len(batch))
            chosen = batch.filter(pa.array(is_gone(members)))
            gone += zip(chosen["id"].to_pylist(), chosen["version"].to_pylist(), strict=True)
        if not gone:
            return
        file.events["removed"] += len(gone)
        reasons = {record_id: reason for record_id, _ in gone}
        self._tables["records"].upsert(list(reasons), list(self._tombstones(file, reasons)))
        events: list[Event] = [(record_id, "removed", version, None) for record_id, version in gone]
        self._tables["events"].append(facts(events, file.raw.name, file.date))

    def _members(self, where: str) -> npt.NDArray[np.int64]:
        batches = [
            batch["member"].to_numpy() for batch in self._tables["members"].scan(("member",), where, narrow=True)
        ]
        return np.concatenate([np.empty(0, np.int64), *batches])

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


def _is_in(values: npt.NDArray[np.int64], ascending: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    if not len(ascending):
        return np.zeros(len(values), np.bool_)
    places = np.searchsorted(ascending, values).clip(max=len(ascending) - 1)
    found: npt.NDArray[np.bool_] = ascending[places] == values
    return found


def _check_name(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise CorpusError(f"the raw file {name!r} cannot be applied: its name is not Unicode: rename it") from error
