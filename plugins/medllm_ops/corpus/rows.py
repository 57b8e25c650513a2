"""The rows that a raw file leaves in the tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from medllm_ops.corpus.changes import Event
from medllm_ops.corpus.schema import EVENTS, FILES, MEMBERS, RECORDS, REJECTS
from medllm_ops.fetch.base import FetchedFile

KEPT_OF_DELETED = ("id", "kind", "language", "title", "url", "licence", "version", "retracted")
"""What the corpus still says of a deleted record: what was withdrawn goes, and with it the hash of its content."""


def living(batch: pa.RecordBatch, file: str, date: str) -> pa.RecordBatch:
    """The content of records as rows of the table ``records``."""
    rows = len(batch)
    columns = [*batch.columns, pa.nulls(rows, pa.string()), pa.repeat(file, rows), pa.repeat(date, rows)]
    return pa.RecordBatch.from_arrays(columns, schema=RECORDS)


def tombstones(batch: pa.RecordBatch, reasons: Mapping[str, str], file: str, date: str) -> pa.RecordBatch:
    """The rows that deleted records keep.

    :param batch: their :data:`KEPT_OF_DELETED`.
    :param reasons: why, by id.
    """
    rows = len(batch)
    said = {
        "deleted": pa.array([reasons[record_id] for record_id in batch["id"].to_pylist()], pa.string()),
        "file": pa.repeat(file, rows),
        "changed": pa.repeat(date, rows),
    }
    said |= {name: batch[name] for name in KEPT_OF_DELETED}
    columns = [said[field.name] if field.name in said else pa.nulls(rows, field.type) for field in RECORDS]
    return pa.RecordBatch.from_arrays(columns, schema=RECORDS)


def facts(events: Sequence[Event], file: str, date: str) -> Iterable[pa.RecordBatch]:
    """The rows of the table ``events``: one batch, or none without events."""
    if not events:
        return
    ids, names, versions, digests = zip(*events, strict=True)
    columns = [
        pa.array(ids, pa.string()),
        pa.array(names, pa.string()),
        pa.array(versions, pa.int32()),
        pa.repeat(date, len(events)),
        pa.repeat(file, len(events)),
        pa.array(digests, pa.binary(16)),
    ]
    yield pa.RecordBatch.from_arrays(columns, schema=EVENTS)


def rejected(batch: pa.RecordBatch, number: int, file: str) -> pa.RecordBatch:
    """Rejects as rows of the table ``rejects``.

    :param batch: its columns from the third on.
    :param number: of the raw file.
    """
    rows = len(batch)
    said = [pa.repeat(pa.scalar(number, pa.int64()), rows), pa.repeat(file, rows)]
    return pa.RecordBatch.from_arrays([*said, *batch.columns], schema=REJECTS)


def memberships(members: npt.NDArray[np.int64], holder: str) -> Iterable[pa.RecordBatch]:
    """The rows of the table ``members``: one batch, or none without members."""
    if len(members):
        yield pa.RecordBatch.from_arrays([pa.repeat(holder, len(members)), pa.array(members)], schema=MEMBERS)


def raw_file(raw: FetchedFile, number: int, date: str, sha256: str, ledger: Mapping[str, object]) -> pa.RecordBatch:
    """The row of the table ``files``."""
    row = {
        "number": number,
        "name": raw.name,
        "checksum": raw.checksum if raw.path is not None else "",
        "sha256": sha256,
        "url": raw.url,
        "generation": raw.generation,
        "date": date,
        "watermark": None if raw.watermark is None else orjson.dumps(raw.watermark).decode(),
        "ledger": orjson.dumps(ledger).decode(),
    }
    return pa.RecordBatch.from_pylist([row], FILES)
