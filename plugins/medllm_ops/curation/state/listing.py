"""What is read of the state: the rows that are kept, those that are not, and their counts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from medllm_ops.curation.duplicates.hashes import CONTENT

NAME: Final = pa.dictionary(pa.int32(), pa.string())

KEPT_ROWS: Final = pa.schema(
    [
        ("id", pa.string()),
        ("source", NAME),
        ("begin", pa.uint64()),
        ("length", pa.uint32()),
        ("cut", pa.uint32()),
        ("language", NAME),
        ("licence", NAME),
        ("characters", pa.uint32()),
        ("cluster", CONTENT),
        ("side", NAME),
    ]
)
"""A row that is kept: ``rows/<source>.jsonl`` of its segment holds its line of ``length`` bytes from ``begin`` on;
``cut`` of its bytes and a ``}`` are the exported line. ``side`` is train or val. No column has nulls, but ``language``
and ``licence`` are as the segment's index has them."""


@dataclass(frozen=True, slots=True)
class KeptRows:
    """Some kept rows of one segment: for each source, in the order of their lines in its file."""

    segment: Path
    """The folder of the segment; ``segment / "rows" / f"{source}.jsonl"`` has the lines."""
    rows: pa.Table
    """:data:`KEPT_ROWS`, at most 131,072 of them, each column in one chunk."""


@dataclass(frozen=True, slots=True)
class Removed:
    """A row, or several equal input lines, that a step of the state or before it removed."""

    id: str
    source: str
    step: str
    """``read``, ``clean``, ``scrub``, ``exact dedup``, ``near dedup`` or ``split``."""
    reason: str
    detail: str
    """Empty if there is none."""
    kept: str
    """The id of the row that stands for it; empty if none does."""
    lines: int = 1
    """How many equal input lines under one id this stands for."""


@dataclass(frozen=True, slots=True)
class Count:
    """How many input lines of a source a step removed for a reason; of those that are kept, both are empty."""

    step: str
    reason: str
    source: str
    lines: int


@dataclass(frozen=True, slots=True)
class StateRow:
    """What is known of an id, whether it is kept, removed, or no more."""

    id: str
    source: str
    segment: int
    """The number of the segment that it came with last."""
    side: str
    """``train`` or ``val`` as written at first sight; empty for a row that never went on to the split."""
    cluster: str
    """Its cluster's name, 32 hexadecimal digits; empty for a row that is in none."""
    kept: str
    """The id of the row that stands for it; empty if none does."""
    similarity: float
    """With that one; 1 for a row that is kept."""
    step: str
    """What removed it; empty for a row that is kept; ``gone`` for one that is no more."""
    reason: str
    detail: str
    line: bytes
    """Its line in its segment; empty if it has none any more."""
    cut: int
