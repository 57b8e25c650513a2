"""One row of a file, and why it could not be used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medllm_ops.records import EXCERPT_CHARACTERS, Reject

ROW_LIMIT = 1 << 20
"""Bytes a row may have; longer ones are rejected unread (the longest of the public sets has some 30 KB)."""


@dataclass(frozen=True, slots=True)
class Row:
    """A JSON object and where it stands in its file."""

    position: str
    data: dict[str, Any]


class RowError(Exception):
    """Why a row is no record. Internal to the sources: it always ends as a :class:`Reject`.

    :param reason: one of a few fixed phrases that can be counted.
    :param detail: what is particular to this row.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def reject(self, path: Path, position: str, excerpt: str, identifier: str | None = None) -> Reject:
        """The reject that tells of this error."""
        return Reject(
            file=str(path),
            position=position,
            reason=self.reason,
            detail=self.detail,
            id=identifier,
            excerpt=excerpt[:EXCERPT_CHARACTERS],
        )
