"""Files of rows that no source recognises: each becomes a reject, so that nobody loses it unseen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from medllm_ops.records import Reject
from medllm_ops.sources.base import Parsed, Source

NAME = "unrecognised"
REASON = "no source recognises its rows"


def parse(path: Path) -> Iterator[Parsed]:
    """Yield one reject for the whole file."""
    yield Reject(file=str(path), position="file", reason=REASON)


SOURCE = Source(name=NAME, stage="sft", folder="sft", patterns=("*",), parse=parse)
