"""Parsed items as an Arrow file: how they come from the process that parses to the one that writes the corpus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.ipc  # used as pa.ipc
import xxhash

from medllm_ops.corpus.schema import CONTENT, CONTENT_NAMES
from medllm_ops.records import Deletion, Document, Preference, Record, Reject, record_to_row

_BATCH_ROWS = 4096
_BATCH_CHARACTERS = 8_000_000
_CHUNK_BATCHES = 32

RECORD, DELETION, REJECT = 0, 1, 2
"""What an item is, in the column ``item``."""

_OTHER = [
    pa.field("position", pa.string()),
    pa.field("reason", pa.string()),
    pa.field("detail", pa.string()),
    pa.field("excerpt", pa.string()),
    pa.field("withdraws", pa.int32()),
]
ITEMS = pa.schema([pa.field("number", pa.int64()), pa.field("item", pa.uint8()), *CONTENT, *_OTHER])
"""What a parser yields, one row an item: a record, a deletion or a reject; ``number`` is its place in the file."""


def write_items(items: Iterable[Record | Deletion | Reject], path: Path) -> None:
    """Write items to an Arrow file of the schema :data:`ITEMS`, in batches of bounded size.

    Records and other items of the same part of the file are in batches of their own, so that a batch of records can
    be written to a table as it is; ``number`` has the order.
    """
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, ITEMS) as writer:
        for batch in _batches(items):
            writer.write_batch(batch)


def _batches(items: Iterable[Record | Deletion | Reject]) -> Iterator[pa.RecordBatch]:
    records: list[tuple[object, ...]] = []
    others: list[tuple[object, ...]] = []
    characters = 0
    for number, item in enumerate(items, start=1):
        if isinstance(item, Deletion):
            others.append((number, DELETION, item.id, item.position, None, None, None, None))
        elif isinstance(item, Reject):
            row = item.to_row()
            said = [row[name] for name in ("position", "reason", "detail", "excerpt")]
            others.append((number, REJECT, row["id"], *said, item.withdraws))
        else:
            records.append((number, *_record_row(item)))
            characters += len(item.text) if isinstance(item, Document) else 1000
        if len(records) + len(others) >= _BATCH_ROWS or characters >= _BATCH_CHARACTERS:
            yield from _pair(records, others)
            records, others, characters = [], [], 0
    yield from _pair(records, others)


def _pair(records: list[tuple[object, ...]], others: list[tuple[object, ...]]) -> Iterator[pa.RecordBatch]:
    if records:
        named = {"number", *CONTENT_NAMES}
        yield _batch(records, named, RECORD)
    if others:
        yield _batch(others, {"number", "item", "id", *(field.name for field in _OTHER)}, None)


def _batch(rows: list[tuple[object, ...]], names: set[str], item: int | None) -> pa.RecordBatch:
    columns = iter(zip(*rows, strict=True))
    arrays = [
        pa.array(next(columns), field.type) if field.name in names else pa.nulls(len(rows), field.type)
        for field in ITEMS
    ]
    if item is not None:
        arrays[1] = pa.repeat(pa.scalar(item, pa.uint8()), len(rows))
    return pa.RecordBatch.from_arrays(arrays, schema=ITEMS)


def _record_row(record: Record) -> tuple[object, ...]:
    kind, text, messages, rejected = "document", None, None, None
    if isinstance(record, Document):
        text = record.text
    else:
        messages = orjson.dumps(record_to_row(record)["messages"]).decode()
        kind = "dialogue"
        if isinstance(record, Preference):
            kind, rejected = "preference", record.rejected_response
    content = (
        kind,
        record.language,
        record.title,
        text,
        messages,
        rejected,
        record.url,
        record.licence,
        record.version,
        record.retracted,
    )
    return (record.id, *content, content_hash(content))


def content_hash(content: Sequence[object]) -> bytes:
    """xxh3-128 of the columns between ``id`` and ``hash``, in their order."""
    return xxhash.xxh3_128_digest("\0".join(map(str, content)).encode("utf-8", "surrogatepass"))


class Chunk:
    """Some batches of a file of items, as many as one look into the corpus is made for."""

    def __init__(self, path: Path, batches: Sequence[int]) -> None:
        self._path = path
        self._numbers = batches

    def columns(self, names: Sequence[str]) -> pa.Table:
        """All rows, these columns only."""
        return pa.Table.from_batches(self._batches(names), pa.schema([ITEMS.field(name) for name in names]))

    def rows(self, names: Sequence[str], positions: pa.Array) -> Iterator[pa.RecordBatch]:
        """The rows at these positions of :meth:`columns`, which ascend, batch by batch."""
        chosen = positions.to_numpy()
        start = 0
        for batch in self._batches(names):
            first, last = np.searchsorted(chosen, (start, start + len(batch)))
            if last - first == len(batch):
                yield batch
            elif last > first:
                yield batch.take(pa.array(chosen[first:last] - start))
            start += len(batch)

    def _batches(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        options = pa.ipc.IpcReadOptions(included_fields=[ITEMS.get_field_index(name) for name in names])
        with pa.memory_map(str(self._path)) as file, pa.ipc.open_file(file, options=options) as reader:
            for number in self._numbers:
                yield reader.get_batch(number).select(list(names))


def read_chunks(path: Path) -> Iterator[Chunk]:
    """The file in chunks of bounded size, in order."""
    with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
        batches = reader.num_record_batches
    for start in range(0, batches, _CHUNK_BATCHES):
        yield Chunk(path, range(start, min(batches, start + _CHUNK_BATCHES)))
