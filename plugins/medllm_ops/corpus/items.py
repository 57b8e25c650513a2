"""Parsed items as an Arrow file: how they come from the process that parses to the one that writes the corpus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.ipc  # used as pa.ipc
import xxhash

from medllm_ops.corpus.schema import CONTENT
from medllm_ops.records import Deletion, Dialogue, Document, Record, Reject, record_to_row

_BATCH_ROWS = 4096
_BATCH_CHARACTERS = 8_000_000
_CHUNK_BATCHES = 16

RECORD, DELETION, REJECT = 0, 1, 2
"""What an item is, in the column ``item``."""

ITEMS = pa.schema(
    [
        pa.field("item", pa.uint8()),
        *CONTENT,
        pa.field("position", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
        pa.field("excerpt", pa.string()),
        pa.field("withdraws", pa.int32()),
    ]
)
"""What a parser yields, one row an item: a record, a deletion or a reject."""


def write_items(items: Iterable[Record | Deletion | Reject], path: Path) -> None:
    """Write items to an Arrow file of the schema :data:`ITEMS`, in order, in batches of bounded size."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, ITEMS) as writer:
        for batch in _batches(items):
            writer.write_batch(batch)


def _batches(items: Iterable[Record | Deletion | Reject]) -> Iterator[pa.RecordBatch]:
    rows: list[tuple[object, ...]] = []
    characters = 0
    for number, item in enumerate(items, start=1):
        rows.append(_row(item, number))
        characters += len(item.text) if isinstance(item, Document) else 1000
        if len(rows) >= _BATCH_ROWS or characters >= _BATCH_CHARACTERS:
            yield _batch(rows)
            rows, characters = [], 0
    if rows:
        yield _batch(rows)


def _batch(rows: list[tuple[object, ...]]) -> pa.RecordBatch:
    columns = zip(*rows, strict=True)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, ITEMS, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=ITEMS)


def _row(item: Record | Deletion | Reject, number: int) -> tuple[object, ...]:
    if isinstance(item, Document):
        return _record_row(item, "document", item.text, None, None, number)
    if isinstance(item, Deletion):
        return (DELETION, item.id, *[None] * 11, item.position, None, None, None, None)
    if isinstance(item, Reject):
        row = item.to_row()
        said = (row["reason"], row["detail"], row["excerpt"], item.withdraws)
        return (REJECT, row["id"], *[None] * 11, row["position"], *said)
    messages = orjson.dumps(record_to_row(item)["messages"]).decode()
    if isinstance(item, Dialogue):
        return _record_row(item, "dialogue", None, messages, None, number)
    return _record_row(item, "preference", None, messages, item.rejected_response, number)


def content_hash(content: Sequence[object]) -> bytes:
    """xxh3-128 of the columns between ``id`` and ``hash``, in their order."""
    return xxhash.xxh3_128_digest("\0".join(map(str, content)).encode("utf-8", "surrogatepass"))


def _record_row(
    record: Record, kind: str, text: str | None, messages: str | None, rejected: str | None, number: int
) -> tuple[object, ...]:
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
    return (RECORD, record.id, *content, content_hash(content), f"record {number}", None, None, None, None)


class Chunk:
    """Some batches of a file of items, as many as one look into the corpus is made for."""

    def __init__(self, path: Path, batches: Sequence[int]) -> None:
        self._path = path
        self._numbers = batches

    def columns(self, names: Sequence[str]) -> pa.Table:
        """All rows, these columns only."""
        return pa.Table.from_batches(self._batches(names), pa.schema([ITEMS.field(name) for name in names]))

    def rows(self, names: Sequence[str], positions: pa.Array) -> Iterator[pa.RecordBatch]:
        """The rows at these positions, which ascend, batch by batch."""
        chosen = positions.to_numpy()
        start = 0
        for batch in self._batches(names):
            inside = chosen[(chosen >= start) & (chosen < start + len(batch))] - start
            if len(inside):
                yield batch.take(pa.array(inside))
            start += len(batch)

    def _batches(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        options = pa.ipc.IpcReadOptions(included_fields=[ITEMS.get_field_index(name) for name in names])
        with pa.OSFile(str(self._path)) as file, pa.ipc.open_file(file, options=options) as reader:
            for number in self._numbers:
                yield reader.get_batch(number).select(list(names))


def read_chunks(path: Path) -> Iterator[Chunk]:
    """The file in chunks of bounded size, in order."""
    with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
        batches = reader.num_record_batches
    for start in range(0, batches, _CHUNK_BATCHES):
        yield Chunk(path, range(start, min(batches, start + _CHUNK_BATCHES)))
