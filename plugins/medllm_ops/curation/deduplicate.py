"""Exact duplicates out: equal text is trained on once, whatever its source, white space or width."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from medllm_ops.files import text_hash
from medllm_ops.records import LedgerEntry

RETRACTED = "retracted"
DUPLICATE = "exact duplicate"

_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U000323af]")
_SPACE = re.compile(r"\s+")


def normalised(text: str) -> str:
    """The text that decides whether two records are equal: NFKC, lower case, one space between words.

    In text with Han characters white space goes altogether: collapsing it misses the duplicates that differ in
    line wraps, which is about a fifth of them.
    """
    text = unicodedata.normalize("NFKC", text).lower()
    return _SPACE.sub("" if _HAN.search(text) else " ", text).strip()


def content_hash(row: Mapping[str, Any]) -> str:
    """The hash of a record's normalised content, over all its turns and their roles."""
    turns = [f"{message['role']}\n{normalised(message['content'])}" for message in row["messages"]]
    if "rejected_response" in row:
        turns.append(f"rejected\n{normalised(row['rejected_response'])}")
    return text_hash("\n\n".join(turns))


@dataclass(slots=True)
class ExactDeduplication:
    """Lets the first record of each content through, in the order given.

    ``removed`` collects a line of ``removed.jsonl`` for each record that is left out: ``id``, ``step``,
    ``reason`` and, for a duplicate, ``kept``: the id of the record that stands for it.
    """

    ledger: list[LedgerEntry] = field(default_factory=lambda: [LedgerEntry("select"), LedgerEntry("exact dedup")])
    removed: list[dict[str, str]] = field(default_factory=list)
    _first: dict[str, str] = field(default_factory=dict)

    def filter(self, rows: Iterable[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield ``(content hash, row)`` of the rows that stay; several calls share one memory."""
        select, dedup = self.ledger
        for row in rows:
            select.rows_in += 1
            if row["retracted"]:
                select.drop(RETRACTED)
                self.removed.append({"id": row["id"], "step": select.step, "reason": RETRACTED})
                continue
            select.rows_out += 1
            dedup.rows_in += 1
            digest = content_hash(row)
            kept = self._first.setdefault(digest, row["id"])
            if kept != row["id"]:
                dedup.drop(DUPLICATE)
                self.removed.append({"id": row["id"], "step": dedup.step, "reason": DUPLICATE, "kept": kept})
                continue
            dedup.rows_out += 1
            yield digest, row
