"""Exact duplicates out: equal text is trained on once, whatever its source, white space or width."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from medllm_ops.curation.duplicates.normalise import content_hash, normalised
from medllm_ops.files import file_hash, make_once, read_json_lines, write_json, write_json_lines
from medllm_ops.records import LedgerEntry

RETRACTED = "retracted"
DUPLICATE = "exact duplicate"
UNUSED = "no stage trains on preference pairs"

__all__ = ["ExactDeduplication", "content_hash", "deduplicate", "normalised", "stage_of"]


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
            if reason := RETRACTED if row["retracted"] else UNUSED if "rejected_response" in row else None:
                select.drop(reason)
                self.removed.append({"id": row["id"], "step": select.step, "reason": reason})
                continue
            select.rows_out += 1
            dedup.rows_in += 1
            digest = content_hash(row)
            if kept := self._first.get(digest):
                dedup.drop(DUPLICATE)
                self.removed.append({"id": row["id"], "step": dedup.step, "reason": DUPLICATE, "kept": kept})
                continue
            self._first[digest] = row["id"]
            dedup.rows_out += 1
            yield digest, row


def stage_of(row: Mapping[str, Any]) -> str:
    """The stage that trains on a record: ``pretrain`` for a text, ``sft`` for a dialogue."""
    return "pretrain" if [message["role"] for message in row["messages"]] == ["assistant"] else "sft"


def deduplicate(inputs: Mapping[str, Path], out: Path) -> None:
    """Deduplicate the records of all sources, in their order, into ``out``, whole or not at all.

    ``out`` gets ``<set>.jsonl`` (rows with their ``content`` hash), ``sets.json`` (set name to stage),
    ``removed.jsonl`` and ``ledger.json``. A source whose records are of both kinds makes two sets.

    :param inputs: source name to its ``records.jsonl``.
    :raises LedgerError: if the counts do not balance.
    """
    make_once(out, [[name, file_hash(path)] for name, path in inputs.items()], partial(_write, inputs))


def _write(inputs: Mapping[str, Path], folder: Path) -> None:
    deduplication = ExactDeduplication()
    sets: dict[str, str] = {}
    for source, path in inputs.items():
        by_stage: dict[str, list[dict[str, Any]]] = {}
        for digest, row in deduplication.filter(read_json_lines(path)):
            by_stage.setdefault(stage_of(row), []).append({**row, "content": digest})
        for stage, rows in by_stage.items():
            name = source if len(by_stage) == 1 else f"{source}_{stage}"
            sets[name] = stage
            write_json_lines(folder / f"{name}.jsonl", rows)
    write_json(folder / "sets.json", sets)
    write_json_lines(folder / "removed.jsonl", deduplication.removed)
    write_json(folder / "ledger.json", [entry.check().to_row() for entry in deduplication.ledger])
