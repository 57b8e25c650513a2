"""From raw files to records in the ms-swift format, every raw record accounted for."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from medllm_ops.errors import LedgerError, MedllmError, UnreadableFileError
from medllm_ops.files import (
    count_lines,
    file_hash,
    make_once,
    read_json,
    read_json_lines,
    to_json_line,
    write_json,
)
from medllm_ops.records import Deletion, LedgerEntry, Record, Reject, record_to_row
from medllm_ops.sources.base import Parsed, Source
from medllm_ops.sources.sample import NOT_SAMPLED, Draw

SUPERSEDED = "replaced by another version"
DELETED = "deleted by its publisher"
DELETION = "deletion notice"
UNREADABLE = "unreadable file"
NOT_UNICODE = "text is not Unicode"


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a conversion left in ``directory``: ``records.jsonl``, ``rejects.jsonl`` and ``ledger.json``.

    ``unreadable`` has a sentence for each file that could not be read at all.
    """

    directory: Path
    ledger: LedgerEntry
    unreadable: tuple[str, ...]


def convert(source: Source, files: Sequence[Path], out: Path, sample: int = 0) -> Conversion:
    """Parse ``files`` in the given order into ``out``, which appears whole or not at all.

    Of a publisher's record that comes several times the highest version stays, and among equal versions the last;
    a deletion takes out what came before it, and so does a later state that has nothing to train on. Rows without a
    publisher's id all stay, under ids of their own: a later step removes duplicates, with their count. A file that
    cannot be read at all costs one reject.

    :param sample: the most records to keep: those whose ids have the lowest hashes, so the same ones whatever
        their order. 0 keeps all. The others are counted, not listed.
    :raises LedgerError: if the counts on disk do not balance.
    :raises OSError: for example when the disk is full; nothing half is left.
    """

    def make(folder: Path) -> None:
        writer = _Writer(source, folder)
        for path in files:
            writer.add_file(path)
        write_json(folder / "ledger.json", writer.finish(sample).to_row())

    # A file with a wrong md5 beside it is read again when only the md5 was put right.
    contents = [[_fingerprint(path), _fingerprint(path.with_name(f"{path.name}.md5"))] for path in files]
    make_once(out, [source.name, source.code, sample, contents], make)
    rejects = read_json_lines(out / "rejects.jsonl")
    unreadable = [f"{row['file']}: {row['detail']}" for row in rejects if row["reason"] == UNREADABLE]
    return Conversion(out, LedgerEntry.from_row(read_json(out / "ledger.json")), tuple(unreadable))


def _fingerprint(path: Path) -> list[str | None]:
    try:
        digest = file_hash(path)
    except OSError:  # The parser will say what is wrong with it.
        digest = None
    return [os.fsencode(path).hex(), digest]


@dataclass(slots=True)
class _Place:
    """Where a written record stands: its version, its line in the first draft, and where it came from."""

    version: int
    line: int
    file: str
    position: str


class _Writer:
    """Writes a first draft of the records, remembers which lines are out, then leaves those out."""

    def __init__(self, source: Source, folder: Path) -> None:
        self._source = source
        self._draft = folder / "draft.jsonl"
        self._records = folder / "records.jsonl"
        self._rejects = folder / "rejects.jsonl"
        self._entry = LedgerEntry(f"convert {source.name}")
        self._alive: dict[str, _Place] = {}
        self._copies: Counter[str] = Counter()
        self._out: set[int] = set()
        self._lines = 0
        self._draft_file = self._draft.open("wb")
        self._rejects_file = self._rejects.open("wb")

    def add_file(self, path: Path) -> None:
        """Write down every item of a file."""
        try:
            for number, item in enumerate(self._source.parse(path), start=1):
                self._add(item, path, number)
        except UnreadableFileError as error:
            self._entry.rows_in += 1
            self._reject(Reject(file=str(path), position="file", reason=UNREADABLE, detail=error.reason))

    def _add(self, item: Parsed, path: Path, number: int) -> None:
        self._entry.rows_in += 1
        if isinstance(item, Reject):
            self._reject(item)
            place = self._alive.get(item.id or "")
            if item.id and place and item.withdraws is not None and place.version <= item.withdraws:
                del self._alive[item.id]
                self._take_out(item.id, place, SUPERSEDED, f"by {item.file}, {item.position}: {item.reason}")
        elif isinstance(item, Deletion):
            self._reject(Reject(file=item.file, position=item.position, reason=DELETION, id=item.id))
            if place := self._alive.pop(item.id, None):
                self._take_out(item.id, place, DELETED, f"by {item.file}, {item.position}")
        else:
            self._add_record(item, _Place(item.version, self._lines, str(path), f"record {number}"))

    def _add_record(self, record: Record, place: _Place) -> None:
        if not self._source.publisher_ids and (name := self._free_id(record.id)) != record.id:
            record = replace(record, id=name)
        try:
            line = to_json_line(record_to_row(record))
        except TypeError as error:  # what orjson raises for lone surrogates
            self._reject(Reject(file=place.file, position=place.position, reason=NOT_UNICODE, detail=str(error)))
            return
        if self._source.publisher_ids:
            earlier = self._alive.get(record.id)
            if earlier is None:
                self._alive[record.id] = place
            elif earlier.version > place.version:
                self._take_out(record.id, place, SUPERSEDED, f"by version {earlier.version}")
            else:
                self._take_out(record.id, earlier, SUPERSEDED, f"by {place.file}, {place.position}")
                self._alive[record.id] = place
        self._draft_file.write(line)
        self._lines += 1

    def _free_id(self, record_id: str) -> str:
        """The id, or the first of ``<id>-2``, ``<id>-3``, … that no row has yet."""
        self._copies[record_id] += 1
        if (copy := self._copies[record_id]) == 1:
            return record_id
        names = (f"{record_id}-{number}" for number in itertools.count(copy))
        name = next(name for name in names if name not in self._copies)
        self._copies[name] = 1
        return name

    def _take_out(self, record_id: str, place: _Place, reason: str, detail: str) -> None:
        self._out.add(place.line)
        self._reject(Reject(file=place.file, position=place.position, reason=reason, detail=detail, id=record_id))

    def _reject(self, reject: Reject) -> None:
        self._rejects_file.write(to_json_line(reject.to_row()))
        self._entry.drop(reject.reason)

    def finish(self, sample: int) -> LedgerEntry:
        """Write the records that stay, and check that the files on disk account for everything."""
        self._draft_file.close()
        self._rejects_file.close()
        rejects = self._entry.dropped.total()
        left_out = self._out | self._not_sampled(sample)
        if not_sampled := len(left_out) - len(self._out):
            self._entry.drop(NOT_SAMPLED, not_sampled)
        if left_out:
            with self._draft.open("rb") as draft, self._records.open("wb") as records:
                records.writelines(line for number, line in enumerate(draft) if number not in left_out)
            self._draft.unlink()
        else:
            self._draft.rename(self._records)
        self._entry.rows_out = count_lines(self._records)
        if count_lines(self._rejects) != rejects:
            raise LedgerError(f"step {self._entry.step}: {self._rejects} does not hold its {rejects} rejects")
        return self._entry.check()

    def _not_sampled(self, sample: int) -> set[int]:
        if not sample:
            return set()
        draw: Draw[int] = Draw(sample)
        lines = set()
        for number, record_id in self._ids():
            if number not in self._out:
                lines.add(number)
                draw.offer(record_id, number)
        return lines.difference(draw.kept())

    def _ids(self) -> Iterator[tuple[int, str]]:
        with self._draft.open("rb") as draft:
            for number, line in enumerate(draft):
                yield number, orjson.loads(line)["id"]


def convert_source(source: str, files: Sequence[str], output_dir: str, sample: int = 0) -> dict[str, Any]:
    """Convert one source by its name; see :func:`convert`.

    :return: ``{"directory", "step", "in", "out", "dropped"}``.
    :raises MedllmError: if not one record came out.
    """
    from medllm_ops.sources import UNRECOGNISED, get_source

    conversion = convert(get_source(source), [Path(path) for path in files], Path(output_dir), sample)
    ledger = conversion.ledger
    if not ledger.rows_out and source != UNRECOGNISED:
        raise MedllmError(
            f"source {source}: no good record in {len(files)} files; dropped: {dict(ledger.dropped)}; "
            f"each is in {output_dir}/rejects.jsonl"
        )
    return {"directory": output_dir, **ledger.to_row()}
