"""Read one version of the corpus; writers do not disturb it."""

from __future__ import annotations

import heapq
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute  # used as pa.compute

from medllm_ops.corpus import manifest as manifests
from medllm_ops.corpus.changes import GONE
from medllm_ops.corpus.manifest import CorpusError
from medllm_ops.corpus.schema import CONTENT_NAMES, RECORDS, SCHEMAS, to_line, to_record
from medllm_ops.corpus.storage import Storage, open_storage
from medllm_ops.corpus.table import Table
from medllm_ops.files import to_json_line, write_whole
from medllm_ops.home import home
from medllm_ops.records import Record

_EXPORTED = ("id", "title", "text", "language", "url", "version")
_OPTIONAL = ("messages", "rejected_response", "retracted")
_FEW_OF = 4
"""Up to one in so many rows are taken one by one; more are read with those between them."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What happened to the records of a source between two versions.

    ``changed`` are the ids of those that live and of which there is a fact; None stands for all that live. ``gone`` are
    the ids of those that live no more; one that came and went between the versions is among them.
    """

    changed: pa.Array | None
    gone: pa.Array


def corpus_url(url: str | None = None) -> str:
    """The address of the corpus: the one given, ``MEDLLM_CORPUS``, or ``corpus/`` in the home folder."""
    return url or os.environ.get("MEDLLM_CORPUS") or str(home() / "corpus")


class Snapshot:
    """One version of the corpus, by number, tag or ``latest``, which it is by default.

    :raises CorpusError: if there is no such version.
    """

    def __init__(self, storage: Storage, version: int | str | None = None) -> None:
        self.storage = storage
        self.manifest = manifests.read(storage, version)

    @property
    def version(self) -> int:
        """Its number."""
        return self.manifest.version

    @property
    def sources(self) -> list[str]:
        """The sources it has something of, sorted."""
        return sorted(name for name, state in self.manifest.sources.items() if state.tables)

    def check_sources(self, names: Iterable[str]) -> None:
        """Make sure that this version has something of each of these sources.

        :raises CorpusError: naming those that it does not have, and those that it has.
        """
        if unknown := {*names} - {*self.sources}:
            raise CorpusError(
                f"{self.storage.url}, version {self.version}: there is nothing of {', '.join(sorted(unknown))} "
                f"(sources: {', '.join(self.sources) or 'none'})"
            )

    def table(self, source: str, name: str) -> Table:
        """A table of a source, as it was in this version."""
        version = self.manifest.source(source).tables.get(name, 0)
        return Table(self.storage, f"tables/{source}/{name}", SCHEMAS[name], version)

    def counts(self, source: str) -> dict[str, int]:
        """How many records of a source live, are retracted, and are gone; its rejects and raw files."""
        records = self.table(source, "records")
        return {
            "alive": records.rows("deleted IS NULL"),
            "retracted": records.rows("deleted IS NULL AND retracted"),
            "deleted": records.rows("deleted IS NOT NULL"),
            "rejects": self.table(source, "rejects").rows(),
            "files": self.table(source, "files").rows(),
        }

    def get(self, record_id: str) -> tuple[str, dict[str, Any]]:
        """The source of a record, and its row.

        :raises CorpusError: if this version never saw the id.
        """
        for source in self.sources:
            found = self.table(source, "records").find(RECORDS.names, "id", [record_id]).to_pylist()
            if found:
                return source, found[0]
        raise CorpusError(f"{self.storage.url}, version {self.version}: there is no record {record_id!r}")

    def history(self, record_id: str) -> list[dict[str, Any]]:
        """What happened to a record, oldest first: event, version, date, raw file.

        :raises CorpusError: if this version never saw the id.
        """
        for source in self.sources:
            columns = ("id", "event", "version", "date", "file")
            found: list[dict[str, Any]] = self.table(source, "events").find(columns, "id", [record_id]).to_pylist()
            if found:
                return found
        raise CorpusError(f"{self.storage.url}, version {self.version}: nothing is known of {record_id!r}")

    def facts(self, source: str) -> int:
        """How many facts there are about a source's records; those of an earlier version are the first of them."""
        return self.table(source, "events").rows()

    def changes(self, source: str, since: int = 0, facts: int | None = None) -> Difference:
        """What happened to a source's records since an earlier version; it reads the facts since then, no others.

        :param since: the earlier version's number; 0: since there is a corpus.
        :param facts: how many facts it had, which must be given if it was cleaned away.
        :raises CorpusError: if there is no such version.
        """
        if facts is None:
            facts = Snapshot(self.storage, since).facts(source)
        if not facts:
            return Difference(None, pa.array([], pa.string()))
        read = self.table(source, "events").scan(("id", "event"), narrow=True, skip=facts)
        events = pa.Table.from_batches(read, pa.schema([("id", pa.string()), ("event", pa.string())]))
        last = events.group_by("id", use_threads=False).aggregate([("event", "last")])
        is_gone = pa.compute.is_in(last["event_last"], value_set=pa.array(sorted(GONE)))
        ids = last["id"].combine_chunks()
        return Difference(ids.filter(pa.compute.invert(is_gone)), ids.filter(is_gone))

    def lines(self, source: str, ids: pa.Array | None = None, since: int = 0) -> Iterator[bytes]:
        """Living records as lines of ``records.jsonl``, retracted ones too, in no particular order.

        :param ids: only these; None: all.
        :param since: a version after which these records were written; it is not looked for where they are if it is
            still there and its tables were not joined since.
        """
        table = self.table(source, "records")
        if ids is None:
            batches: Iterator[Any] = table.scan(CONTENT_NAMES, "deleted IS NULL")
        else:
            batches = self._changed(table, ids, self._earlier(source, since))
        for batch in batches:
            for row in batch.to_pylist():
                yield to_line(row, source)

    def _changed(self, table: Table, ids: pa.Array, earlier: Table | None) -> Iterator[Any]:
        where, places, looked_at = "deleted IS NULL", [], 0
        for batch in table.scan(("id",), where, narrow=True, row_ids=True, beside=earlier):
            looked_at += len(batch)
            places.append(batch["_rowid"].filter(pa.compute.is_in(batch["id"], value_set=ids)))
        found = pa.chunked_array(places, pa.uint64())
        if len(found) * _FEW_OF <= looked_at:
            yield from table.in_order(CONTENT_NAMES, found)
            return
        for batch in table.scan(CONTENT_NAMES, where, beside=earlier):
            yield batch.filter(pa.compute.is_in(batch["id"], value_set=ids))

    def _earlier(self, source: str, since: int) -> Table | None:
        try:
            return Snapshot(self.storage, since).table(source, "records") if since else None
        except CorpusError:  # cleaned away
            return None

    def files(self, source: str) -> list[dict[str, Any]]:
        """The raw files that were applied, in order, with their ledgers."""
        rows = [row for batch in self.table(source, "files").scan(SCHEMAS["files"].names) for row in batch.to_pylist()]
        return [row | {"ledger": orjson.loads(row["ledger"])} for row in rows]

    def rejects(self, source: str) -> Iterator[dict[str, Any]]:
        """What could not become a record, and why."""
        for batch in self.table(source, "rejects").scan(SCHEMAS["rejects"].names):
            yield from batch.to_pylist()

    def records(self, source: str, retracted: bool = False) -> Iterator[Record]:
        """The living records of a source, sorted by id."""
        for row in self._rows(source, CONTENT_NAMES, retracted):
            yield to_record(row, source)

    def export(self, path: Path, sources: list[str] | None = None, retracted: bool = False) -> Counter[str]:
        """Write the living records as JSON lines, sorted by id, whole or not at all.

        The same version gives the same bytes. A dialogue has ``messages`` instead of a ``text``.

        :param sources: only these; all by default.
        :param retracted: write retracted records too, marked ``"retracted": true``.
        :return: rows by source.
        :raises CorpusError: if this version has nothing of one of the sources.
        """
        counts: Counter[str] = Counter()
        self.check_sources(sources or ())
        streams = [self._exported(source, retracted) for source in sources or self.sources]
        with write_whole(path) as file:
            for row in heapq.merge(*streams, key=lambda row: row["id"].encode()):
                file.write(to_json_line(row))
                counts[row["source"]] += 1
        return counts

    def _exported(self, source: str, retracted: bool) -> Iterator[dict[str, Any]]:
        for row in self._rows(source, (*_EXPORTED, *_OPTIONAL), retracted):
            exported = {name: row[name] for name in ("id", "title", "text", "language")}
            exported |= {"source": source, "url": row["url"], "version": row["version"]}
            if row["messages"] is not None:
                del exported["text"]
                exported["messages"] = orjson.loads(row["messages"])
            if row["rejected_response"] is not None:
                exported["rejected_response"] = row["rejected_response"]
            yield exported | ({"retracted": True} if row["retracted"] else {})

    def _rows(self, source: str, columns: tuple[str, ...] | list[str], retracted: bool) -> Iterator[dict[str, Any]]:
        """The living rows, sorted by the bytes of their ids; only the ids are in memory at once."""
        table = self.table(source, "records")
        alive = "deleted IS NULL" if retracted else "deleted IS NULL AND NOT retracted"
        batches = list(table.scan(("id",), alive, narrow=True, row_ids=True))
        names = pa.chunked_array([batch["id"] for batch in batches], pa.string())
        row_ids = pa.chunked_array([batch["_rowid"] for batch in batches], pa.uint64())
        del batches
        places = row_ids.take(pa.compute.sort_indices(names))
        del names, row_ids
        for rows in table.in_order(columns, places):
            yield from rows.to_pylist()


def open_corpus(url: str | None = None, version: int | str | None = None) -> Snapshot:
    """The corpus at an address, at one of its versions or tags; the latest by default.

    :raises CorpusError: if there is no such version.
    """
    return Snapshot(open_storage(corpus_url(url)), version)
