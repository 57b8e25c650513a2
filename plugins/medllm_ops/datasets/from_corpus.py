"""From the corpus to records in the ms-swift format: what a run trains on when it is not given raw files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medllm_ops.corpus.reader import open_corpus
from medllm_ops.errors import MedllmError
from medllm_ops.files import make_once, read_json, write_json, write_json_lines
from medllm_ops.records import LedgerEntry, record_to_row
from medllm_ops.sources.sample import NOT_SAMPLED, Draw


def take_from_corpus(corpus: str, version: int, source: str, out: Path, sample: int = 0) -> LedgerEntry:
    """Write a source's living records into ``out``, which appears whole or not at all.

    Retracted records come along, marked: a later step takes them out, with their count. What could not become a
    record stays listed in the corpus.

    :param sample: the most records to keep: those whose ids have the lowest hashes. 0 keeps all.
    :raises MedllmError: if the corpus has no living record of the source in this version.
    """

    def make(folder: Path) -> None:
        snapshot = open_corpus(corpus, version)
        entry = LedgerEntry(f"corpus {source}", rows_in=snapshot.counts(source)["alive"])
        records = snapshot.records(source, retracted=True)
        if sample:
            draw: Draw[Any] = Draw(sample)
            for record in records:
                draw.offer(record.id, record)
            records = iter(draw.kept())
            if draw.left_out:
                entry.drop(NOT_SAMPLED, draw.left_out)
        entry.rows_out = write_json_lines(folder / "records.jsonl", map(record_to_row, records))
        write_json_lines(folder / "rejects.jsonl", [])
        write_json(folder / "ledger.json", entry.check().to_row())

    make_once(out, [corpus, version, source, sample], make)
    entry = LedgerEntry.from_row(read_json(out / "ledger.json"))
    if not entry.rows_out:
        raise MedllmError(f"corpus {corpus}, version {version}: no record of {source} is alive")
    return entry
