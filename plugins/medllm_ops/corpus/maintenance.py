"""Keep a corpus small and prove it sound."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from medllm_ops.corpus import lease as leases
from medllm_ops.corpus import manifest as manifests
from medllm_ops.corpus.changes import GONE, member_of
from medllm_ops.corpus.items import content_hash
from medllm_ops.corpus.manifest import CorpusError, SourceState
from medllm_ops.corpus.raw_store import RawStore
from medllm_ops.corpus.reader import Snapshot
from medllm_ops.corpus.schema import CONTENT_NAMES, SCHEMAS
from medllm_ops.corpus.storage import Storage
from medllm_ops.corpus.table import Table
from medllm_ops.corpus.writer import open_writer
from medllm_ops.errors import MedllmError
from medllm_ops.records import LedgerEntry

KEPT_VERSIONS = 10

_ROWS_AT_ONCE = 10_000_000
_STATE = np.dtype([("member", np.int64), ("said", np.int64)])


def compact(storage: Storage, keep: int = KEPT_VERSIONS) -> int:
    """Join small fragments of all tables, and forget versions that are old and have no tag.

    :param keep: how many of the latest versions stay readable.
    :return: bytes freed.
    :raises LeaseError: if a source is being written.
    """
    for source in manifests.read(storage).sources:
        with open_writer(storage, source) as writer:
            writer.compact()
    tagged = set(manifests.tags(storage).values())
    for number in manifests.versions(storage)[:-keep]:
        if number not in tagged:
            manifests.delete(storage, number)
    freed = 0
    for source in manifests.read(storage).sources:
        with leases.hold(storage, source):  # no version of this source is published meanwhile
            states = [manifests.read(storage, number).source(source) for number in manifests.versions(storage)]
            for name, schema in SCHEMAS.items():
                freed += Table(storage, f"tables/{source}/{name}", schema, 0).clean(_versions(states, name))
    return freed


def _versions(states: list[SourceState], table: str) -> set[int]:
    return {version for state in states for tables in (state.tables, state.head) if (version := tables.get(table))}


def verify(snapshot: Snapshot) -> Iterator[str]:
    """Yield a sentence for each thing that is wrong with a version; a sound one yields nothing.

    Everything is read. A record must be there once, with the content that its hash and its last fact say, or dead if
    its last fact says so; facts and rejects must be as many as the ledgers of the raw files say, and the ledgers must
    balance. The memory this takes is bounded: a corpus of 40 M records is looked through five times.
    """
    for source in snapshot.sources:
        where = f"version {snapshot.version}, {source}"
        for wrong in (_wrong_contents, _wrong_facts, _wrong_counts):
            try:
                for sentence in wrong(snapshot, source):
                    yield f"{where}: {sentence}"
            except MedllmError as error:
                yield f"{where}: {error}"


def verify_raw(snapshot: Snapshot) -> Iterator[str]:
    """Yield a sentence for each raw file of a version that was not kept, is missing, or has another content by now.

    Each one is read whole, through a temporary folder: a version without such a sentence can be rebuilt.
    """
    for source in snapshot.sources:
        raw = RawStore(snapshot.storage, source)
        for number in range(1, snapshot.manifest.source(source).files + 1):
            try:
                with TemporaryDirectory(prefix="medllm-") as folder:
                    raw.bring(raw.entry(number), Path(folder))
            except CorpusError as error:
                yield f"version {snapshot.version}, {source}: {error}"


def _wrong_contents(snapshot: Snapshot, source: str) -> Iterator[str]:
    for batch in snapshot.table(source, "records").scan((*CONTENT_NAMES, "deleted")):
        for row in batch.to_pylist():
            if row["deleted"] is not None:
                if row["text"] or row["messages"] or row["rejected_response"]:
                    yield f"{row['id']} is deleted, but its text is still there"
            elif row["hash"] != content_hash([row[name] for name in CONTENT_NAMES[1:-1]]):
                yield f"{row['id']} does not have the content that its hash says"


def _wrong_facts(snapshot: Snapshot, source: str) -> Iterator[str]:
    records, events = snapshot.table(source, "records"), snapshot.table(source, "events")
    parts = 1 + max(records.rows(), events.rows()) // _ROWS_AT_ONCE
    for part in range(parts):
        here = _sorted(_states(records, "deleted", lambda why: why is not None), part, parts)
        facts = _sorted(_states(events, "event", GONE.__contains__), part, parts)
        is_last = np.append(facts["member"][1:] != facts["member"][:-1], True)[: len(facts)]
        facts = facts[is_last]
        twice = here["member"][1:][here["member"][1:] == here["member"][:-1]]
        yield from _named(records, twice, "is there more than once")
        yield from _named(records, here["member"][~np.isin(here, facts)], "is not what its last fact says")
        yield from _named(events, np.setdiff1d(facts["member"], here["member"]), "has facts, but no record")


def _states(table: Table, column: str, is_gone: Callable[[Any], bool]) -> Iterator[tuple[int, int]]:
    """Member, and the first bytes of the hash, or 0 if it is gone."""
    for batch in table.scan(("id", column, "hash"), narrow=True):
        for record_id, value, digest in zip(*(array.to_pylist() for array in batch.columns), strict=True):
            yield member_of(record_id), 0 if is_gone(value) else 1 + int.from_bytes((digest or b"")[:7], "big")


def _sorted(states: Iterator[tuple[int, int]], part: int, parts: int) -> npt.NDArray[Any]:
    """Those of a part, by member; those of the same member in their order."""
    found = np.fromiter((state for state in states if state[0] % parts == part), _STATE)
    return found[np.argsort(found["member"], kind="stable")]


def _named(table: Table, members: npt.NDArray[np.int64], what: str) -> Iterator[str]:
    if len(members):
        wanted = {*members.tolist()}
        ids = (name for batch in table.scan(("id",), narrow=True) for name in batch["id"].to_pylist())
        for name in sorted({name for name in ids if member_of(name) in wanted}):
            yield f"{name} {what}"


def _wrong_counts(snapshot: Snapshot, source: str) -> Iterator[str]:
    events: Counter[str] = Counter()
    rejects: Counter[int] = Counter()
    for batch in snapshot.table(source, "events").scan(("event",), narrow=True):
        events.update(batch["event"].to_pylist())
    for batch in snapshot.table(source, "rejects").scan(("number",), narrow=True):
        rejects.update(batch["number"].to_pylist())
    said: Counter[str] = Counter()
    before = 0
    for row in snapshot.files(source):
        ledger = row["ledger"]
        said.update(ledger["events"])
        if not before < row["number"] <= snapshot.manifest.source(source).files:
            yield f"raw file {row['number']} comes after raw file {before}"
        before = row["number"]
        if rejects.pop(row["number"], 0) != ledger["rejects"]:
            yield f"the rejects of raw file {row['number']} are not {ledger['rejects']}, as its ledger says"
        LedgerEntry.from_row(ledger).check()
    if rejects:
        yield f"there are rejects of raw files that were never applied: {', '.join(map(str, sorted(rejects)))}"
    if events != said:
        yield f"the facts are {dict(sorted(events.items()))}, and the ledgers say {dict(sorted(said.items()))}"
