"""The columns of the tables, and the way from their rows back to records."""

from __future__ import annotations

import orjson
import pyarrow as pa

from medllm_ops.files import to_json_line
from medllm_ops.records import Dialogue, Document, Message, Preference, Record

CONTENT = [
    pa.field("id", pa.string()),
    pa.field("kind", pa.string()),
    pa.field("language", pa.string()),
    pa.field("title", pa.string()),
    pa.field("text", pa.string()),
    pa.field("messages", pa.string()),
    pa.field("rejected_response", pa.string()),
    pa.field("url", pa.string()),
    pa.field("licence", pa.string()),
    pa.field("version", pa.int32()),
    pa.field("retracted", pa.bool_()),
    pa.field("hash", pa.binary(16)),
]
CONTENT_NAMES = [field.name for field in CONTENT]

RECORDS = pa.schema(
    [
        *CONTENT,
        pa.field("deleted", pa.string()),  # why; null: it lives
        pa.field("file", pa.string()),
        pa.field("changed", pa.string()),
    ]
)
"""The last state of every record that ever was; ``hash`` is xxh3-128 of its content."""

EVENTS = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("event", pa.string()),
        pa.field("version", pa.int32()),
        pa.field("date", pa.string()),
        pa.field("file", pa.string()),
        pa.field("hash", pa.binary(16)),
    ]
)
"""The facts: what happened to a record, when, and by which raw file."""

FILES = pa.schema(
    [
        pa.field("number", pa.int64()),
        pa.field("name", pa.string()),
        pa.field("checksum", pa.string()),
        pa.field("sha256", pa.string()),
        pa.field("url", pa.string()),
        pa.field("generation", pa.string()),
        pa.field("date", pa.string()),
        pa.field("watermark", pa.string()),
        pa.field("ledger", pa.string()),
    ]
)
"""The raw files that were applied, in order; ``ledger`` and ``watermark`` are JSON."""

REJECTS = pa.schema(
    [
        pa.field("number", pa.int64()),
        pa.field("file", pa.string()),
        pa.field("position", pa.string()),
        pa.field("id", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
        pa.field("excerpt", pa.string()),
    ]
)

MEMBERS = pa.schema([pa.field("file", pa.string()), pa.field("member", pa.int64())])
"""Which ids a raw file, or a generation on its way in, holds: xxh3-64 of the id, as a signed number."""

SCHEMAS = {"records": RECORDS, "events": EVENTS, "files": FILES, "rejects": REJECTS, "members": MEMBERS}


def to_record(row: dict[str, object], source: str) -> Record:
    """A row of the table ``records`` as the record it was made of."""
    common = {key: row[key] for key in ("id", "language", "title", "url", "licence", "version", "retracted")}
    if row["kind"] == "document":
        return Document(source=source, text=row["text"], **common)  # type: ignore[arg-type]
    messages = tuple(Message(**message) for message in orjson.loads(str(row["messages"])))
    if row["kind"] == "dialogue":
        return Dialogue(source=source, messages=messages, **common)  # type: ignore[arg-type]
    return Preference(
        source=source,
        messages=messages,
        rejected_response=row["rejected_response"],  # type: ignore[arg-type]
        **common,  # type: ignore[arg-type]
    )


def to_line(row: dict[str, object], source: str) -> bytes:
    """A row of the table ``records`` as the line of ``records.jsonl`` that its record is, with its newline."""
    if row["messages"] is not None:
        messages: object = orjson.Fragment(str(row["messages"]))
    else:
        messages = [{"role": "assistant", "content": row["text"]}]
    line = {"id": row["id"], "messages": messages, "source": source}
    line |= {key: row[key] for key in ("language", "title", "url", "licence", "version", "retracted")}
    if row["rejected_response"] is not None:
        line["rejected_response"] = row["rejected_response"]
    return to_json_line(line)
