"""Parsed items as an Arrow file: how they come from the process that parses to the one that writes the corpus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.ipc  # used as pa.ipc
import xxhash

from medllm_ops.corpus.schema import CONTENT, CONTENT_NAMES
from medllm_ops.records import Deletion, Document, Preference, Record, Reject, record_to_row, writable

_BATCH_ROWS = 1024
_BATCH_BYTES = 4_000_000
_CHUNK_ROWS = 32_768

NOT_UNICODE = "text is not Unicode"

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
_OF_RECORDS = {"number", *CONTENT_NAMES}
_OF_OTHERS = {"number", "item", "id", *(field.name for field in _OTHER)}

_Row: TypeAlias = tuple[object, ...]


@contextmanager
def lean_memory() -> Iterator[None]:
    """Let Arrow give memory back: its own pool keeps what the largest chunk took (a fifth of the peak)."""
    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)


def write_items(items: Iterable[Record | Deletion | Reject], path: Path) -> None:
    """Write items to an Arrow file of the schema :data:`ITEMS`, in batches of bounded size.

    Records and other items of the same part of the file are in batches of their own, so that a batch of records can
    be written to a table as it is; ``number`` has the order. What is not Unicode (lone surrogates) becomes a reject.
    """
    with lean_memory(), pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, ITEMS) as writer:
        for batch in _batches(items):
            writer.write_batch(batch)


def _batches(items: Iterable[Record | Deletion | Reject]) -> Iterator[pa.RecordBatch]:
    records: list[_Row] = []
    others: list[_Row] = []
    size = 0
    for number, item in enumerate(items, start=1):
        if isinstance(item, Deletion | Reject):
            others.append((number, *_other_row(item)))
        else:
            try:
                item.id.encode()
                content = _content(item)
                said = orjson.dumps(content)
            except (TypeError, UnicodeEncodeError) as error:  # lone surrogates; orjson raises the former
                others.append((number, *_not_unicode(item.id, f"record {number}", error)))
            else:
                records.append((number, item.id, *content, xxhash.xxh3_128_digest(said)))
                size += len(said)
        if len(records) + len(others) >= _BATCH_ROWS or size >= _BATCH_BYTES:
            yield from _pair(records, others)
            records, others, size = [], [], 0
    yield from _pair(records, others)


def _pair(records: list[_Row], others: list[_Row]) -> Iterator[pa.RecordBatch]:
    if records:
        yield _batch(records, _OF_RECORDS, RECORD)
    if others:
        yield _batch(others, _OF_OTHERS, None)


def _batch(rows: list[_Row], names: set[str], item: int | None) -> pa.RecordBatch:
    columns = iter(zip(*rows, strict=True))
    arrays = [
        pa.array(next(columns), field.type) if field.name in names else pa.nulls(len(rows), field.type)
        for field in ITEMS
    ]
    if item is not None:
        arrays[1] = pa.repeat(pa.scalar(item, pa.uint8()), len(rows))
    return pa.RecordBatch.from_arrays(arrays, schema=ITEMS)


def _content(record: Record) -> _Row:
    """The columns between ``id`` and ``hash``."""
    kind, text, messages, rejected = "document", None, None, None
    if isinstance(record, Document):
        text = record.text
    else:
        messages = orjson.dumps(record_to_row(record)["messages"]).decode()
        kind = "dialogue"
        if isinstance(record, Preference):
            kind, rejected = "preference", record.rejected_response
    said = (record.url, record.licence, record.version, record.retracted)
    return (kind, record.language, record.title, text, messages, rejected, *said)


def content_hash(content: Sequence[object]) -> bytes:
    """xxh3-128 of the columns between ``id`` and ``hash``, in their order, as a JSON array."""
    return xxhash.xxh3_128_digest(orjson.dumps(content))


def _other_row(item: Deletion | Reject) -> _Row:
    if isinstance(item, Deletion):
        try:
            item.id.encode()
        except UnicodeEncodeError as error:
            return _not_unicode(item.id, item.position, error)
        return (DELETION, item.id, writable(item.position), None, None, None, None)
    row = item.to_row()
    said = (row[name] for name in ("position", "reason", "detail", "excerpt"))
    return (REJECT, row["id"], *said, item.withdraws)


def _not_unicode(record_id: str, position: str, error: Exception) -> _Row:
    return _other_row(Reject(file="", position=position, reason=NOT_UNICODE, detail=str(error), id=record_id))


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
        for batch in _read(self._path, self._numbers):
            yield batch.select(list(names))


def read_chunks(path: Path) -> Iterator[Chunk]:
    """The file in chunks of bounded size, in order: every item of one comes before every item of the next."""
    numbers: list[int] = []
    rows = highest = 0
    for number, batch in enumerate(_read(path)):
        places = batch["number"]
        if rows >= _CHUNK_ROWS and places[0].as_py() > highest:
            yield Chunk(path, numbers)
            numbers, rows = [], 0
        numbers.append(number)
        rows += len(batch)
        highest = max(highest, places[-1].as_py())
    if numbers:
        yield Chunk(path, numbers)


def _read(path: Path, numbers: Sequence[int] | None = None) -> Iterator[pa.RecordBatch]:
    """The batches, mapped: of a column that nobody looks at, nothing is read."""
    if numbers is None:
        with pa.memory_map(str(path)) as file, pa.ipc.open_file(file) as reader:
            numbers = range(reader.num_record_batches)
    for number in numbers:
        # A map for each, as what was read of a map stays in the process's memory as long as the map does.
        with pa.memory_map(str(path)) as file, pa.ipc.open_file(file) as reader:
            batch = reader.get_batch(number)
        yield batch
