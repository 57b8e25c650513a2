"""A segment as the row-wise steps prepare it."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

INDEX: Final = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.dictionary(pa.int32(), pa.string())),
        ("digest", pa.binary(16)),
        ("begin", pa.uint64()),
        ("length", pa.uint32()),
        ("cut", pa.uint32()),
        ("language", pa.dictionary(pa.int32(), pa.string())),
        ("licence", pa.dictionary(pa.int32(), pa.string())),
        ("characters", pa.uint32()),
        ("step", pa.dictionary(pa.int32(), pa.string())),
        ("reason", pa.dictionary(pa.int32(), pa.string())),
        ("detail", pa.string()),
    ]
)
"""``index.parquet``: a line for every input line. ``id`` (of a line that is no record: ``<file name>:<byte>``),
``source`` and ``digest`` (xxh3-128 of the input row) are never null. ``begin``, ``length`` (with the line end) and
``cut`` are the place of the line in ``rows/<source>.jsonl``, null for a line that does not go on; then ``step`` and
``reason`` say why, which are null otherwise."""
