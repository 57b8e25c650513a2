"""Keep a corpus small and prove it sound."""

from __future__ import annotations

from collections.abc import Iterator

from medllm_ops.corpus import lease as leases
from medllm_ops.corpus import manifest as manifests
from medllm_ops.corpus.items import content_hash
from medllm_ops.corpus.manifest import SourceState
from medllm_ops.corpus.reader import Snapshot
from medllm_ops.corpus.schema import CONTENT_NAMES, SCHEMAS
from medllm_ops.corpus.storage import Storage
from medllm_ops.corpus.table import Table
from medllm_ops.corpus.writer import open_writer

KEPT_VERSIONS = 10


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

    Every record is read: its hash must be that of its content, its id must be alone, and what is deleted must have a
    fact that says so.
    """
    for source in snapshot.sources:
        where = f"version {snapshot.version}, {source}"
        yield from _wrong_records(snapshot, source, where)
        last: dict[str, str] = {}
        for batch in snapshot.table(source, "events").scan(("id", "event")):
            last |= dict(zip(batch["id"].to_pylist(), batch["event"].to_pylist(), strict=True))
        gone = {"deleted", "removed", "withdrawn"}
        for batch in snapshot.table(source, "records").scan(("id", "deleted")):
            for record_id, deleted in zip(batch["id"].to_pylist(), batch["deleted"].to_pylist(), strict=True):
                if (deleted is not None) != (last.get(record_id) in gone):
                    state = "deleted" if deleted else "alive"
                    yield f"{where}: {record_id} is {state}, but its last fact is {last.get(record_id, 'missing')!r}"
        files = snapshot.files(source)
        if [row["number"] for row in files] != list(range(1, len(files) + 1)):
            yield f"{where}: the raw files are not numbered from 1 without gaps"


def _wrong_records(snapshot: Snapshot, source: str, where: str) -> Iterator[str]:
    seen: set[str] = set()
    for batch in snapshot.table(source, "records").scan((*CONTENT_NAMES, "deleted")):
        for row in batch.to_pylist():
            if row["id"] in seen:
                yield f"{where}: {row['id']} is there twice"
            seen.add(row["id"])
            if row["deleted"] is None and row["hash"] != content_hash([row[name] for name in CONTENT_NAMES[1:-1]]):
                yield f"{where}: {row['id']} does not have the content that its hash says"
