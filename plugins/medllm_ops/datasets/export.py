"""The frozen dataset: train and validation files in the ms-swift format, with no row that swift would drop."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any, Protocol, TypeAlias

from medllm_ops.datasets.pairs import REJECTED, both_answers, labelled
from medllm_ops.datasets.store import SIDES
from medllm_ops.errors import MedllmError
from medllm_ops.files import (
    file_hash,
    make_once,
    read_json,
    read_json_lines,
    text_hash,
    to_json_line,
    write_json,
    write_whole,
)
from medllm_ops.records import LedgerEntry

TOO_LONG = "longer than max_length"
NOT_ENCODABLE = "refused by the template"
ONE_SIDE_EMPTY = "set without rows on both sides"
ANSWER_TWICE = "an answer of another pair: kto cannot take it twice"
_BATCH = 1000


@dataclass(frozen=True, slots=True)
class SetSettings:
    """How one set is exported.

    :param stage: the stage that trains on it: ``pretrain``, ``sft``, ``self_cognition`` or ``dpo``.
    :param max_length: the most tokens of a row, the template's included; None is the model's own maximum.
    :param labelled: whether a pair becomes two rows that each say how good their answer is, as kto takes them.
    :param first_piece: whether a row that is cut gives its first piece only, so that a mixture keeps its shares.
    """

    stage: str
    max_length: int | None
    labelled: bool = False
    first_piece: bool = False


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """The tokens of each row of each file, in order, template included; 0 where the template refuses the row.

    Of a pair, ``by_file`` has the tokens of its longer dialogue and ``computed`` those of both.
    """

    by_file: Mapping[Path, list[int]]
    model_maximum: int | None
    computed: Mapping[Path, list[int]]


# From files and the stage that trains on each to counts by the model's own tokenizer and template.
TokenCounter: TypeAlias = Callable[[Mapping[Path, str]], TokenCounts]
Row: TypeAlias = dict[str, Any]
# The pieces of a row, the tokens of each, and those that are computed of each.
Fitting: TypeAlias = tuple[list[Row], list[int], list[int]]


class Cut(Protocol):
    """What becomes of rows that are too long."""

    def __call__(self, rows: Sequence[Row], limit: int) -> Iterable[list[Row]]:
        """The pieces of each row, each of at most ``limit`` tokens; none if it cannot be cut or shortened."""


def export(
    source: Path,
    sets: Mapping[str, SetSettings],
    count_tokens: TokenCounter,
    cut: Cut,
    out: Path,
    context: Any = None,
) -> dict[str, Any]:
    """Write ``out/train`` and ``out/val`` from the sets, whole or not at all, and return the manifest.

    A row longer than the model takes is cut or shortened, and counted again. A set whose rows do not reach both sides
    is left out, counted: without validation nobody sees what it does.

    :param source: a folder with ``train/<set>.jsonl`` and ``val/<set>.jsonl``.
    :param context: what else decides the counts and the cuts (the model, the template), as JSON.
    :raises MedllmError: if a stage is left without any set.
    :raises LedgerError: if the counts do not balance.
    """
    files = {source / side / f"{name}.jsonl": settings.stage for name, settings in sets.items() for side in SIDES}
    inputs = [[path.name, file_hash(path)] for path in files]
    settings_row = {name: astuple(settings) for name, settings in sets.items()}

    def make(folder: Path) -> None:
        _Export(source, sets, count_tokens, cut, folder).write(count_tokens(files))

    make_once(out, [inputs, settings_row, context], make)
    return dict(read_json(out / "manifest.json"))


@dataclass(slots=True)
class _Export:
    source: Path
    sets: Mapping[str, SetSettings]
    count_tokens: TokenCounter
    cut: Cut
    folder: Path
    # The answers that kto has seen, by side.
    answers: dict[str, set[str]] = field(default_factory=lambda: {side: set() for side in SIDES})

    def write(self, counts: TokenCounts) -> None:
        """Write everything."""
        limits = {
            name: min(length for length in (settings.max_length, counts.model_maximum, sys.maxsize) if length)
            for name, settings in self.sets.items()
        }
        work = self.folder / "work"
        pieces = self._pieces(counts, limits, work)
        manifest: dict[str, Any] = {"sets": {}}
        ledger: list[dict[str, Any]] = []
        with (self.folder / "removed.jsonl").open("wb") as removed:
            for name, settings in self.sets.items():
                figures, row = self._set(name, limits[name], counts, pieces, removed)
                ledger.append(row)
                if figures:
                    manifest["sets"][name] = {"stage": settings.stage, **figures}
        shutil.rmtree(work, ignore_errors=True)
        _check_stages(self.sets, manifest, ledger)
        write_json(self.folder / "ledger.json", ledger)
        write_json(self.folder / "manifest.json", manifest)

    def _pieces(self, counts: TokenCounts, limits: Mapping[str, int], work: Path) -> dict[Path, Iterator[Fitting]]:
        """For each file, what its rows that are too long were cut into, in their order, with its tokens."""
        made: dict[Path, tuple[Path, list[int]]] = {}
        stages: dict[Path, str] = {}
        for path, lengths in counts.by_file.items():
            limit = limits[path.stem]
            if not any(length > limit for length in lengths):
                continue
            made[path] = work / path.parent.name / path.name, []
            rows = (row for row, length in zip(read_json_lines(path), lengths, strict=True) if length > limit)
            with write_whole(made[path][0]) as file:
                while batch := list(islice(rows, _BATCH)):
                    for parts in self.cut(batch, limit):
                        if self.sets[path.stem].first_piece:
                            del parts[1:]
                        made[path][1].append(len(parts))
                        file.writelines(map(to_json_line, parts))
            if any(made[path][1]):
                stages[made[path][0]] = self.sets[path.stem].stage
        counted = self.count_tokens(stages) if stages else TokenCounts({}, None, {})
        return {path: _grouped(draft, numbers, counted) for path, (draft, numbers) in made.items()}

    def _set(
        self,
        name: str,
        limit: int,
        counts: TokenCounts,
        pieces: Mapping[Path, Iterator[Fitting]],
        removed: IO[bytes],
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Write one set; its figures, none if it is left out, and its row of the ledger."""
        entry = LedgerEntry(f"export {name}")
        validating: list[str] = []
        rows_of = dict.fromkeys(SIDES, 0)
        tokens = longer = 0
        paths = {side: self.folder / side / f"{name}.jsonl" for side in SIDES}
        # Validation first: it is small, and without it no row of training is written.
        for side in reversed(SIDES):
            origin = self.source / side / f"{name}.jsonl"
            with write_whole(paths[side]) as file:
                counted = zip(counts.by_file[origin], counts.computed[origin], strict=True)
                for row, (length, computed) in zip(read_json_lines(origin), counted, strict=True):
                    entry.rows_in += 1
                    parts, lengths, all_of = next(pieces[origin]) if length > limit else ([row], [length], [computed])
                    reason = _refusal(lengths, limit)
                    if not reason and self.sets[name].labelled:
                        reason = self._met_before(row, side)
                    if not reason and side == "train" and not validating:
                        reason = ONE_SIDE_EMPTY
                    if reason:
                        _drop(entry, row["id"], reason, removed, length)
                        continue
                    entry.rows_out += 1
                    if side == "train":
                        tokens += sum(all_of)
                        longer += sum(lengths)
                    else:
                        validating.append(row["id"])
                    for each in self._form(name, parts):
                        rows_of[side] += 1
                        file.write(to_json_line(each))
        if not rows_of["train"]:
            entry.rows_out -= len(validating)
            for record_id in validating:
                _drop(entry, record_id, ONE_SIDE_EMPTY, removed)
        if not entry.rows_out:
            for path in paths.values():
                path.unlink()
            return {}, _ledger_row(entry, 0)
        hashes = {side: file_hash(path) for side, path in paths.items()}
        figures = {"max_length": limit, "tokens": tokens, "hashes": hashes, **rows_of}
        if self.sets[name].stage == "dpo" and not self.sets[name].labelled:
            figures["longer_tokens"] = longer
        return figures, _ledger_row(entry, sum(rows_of.values()))

    def _form(self, name: str, parts: Iterable[Row]) -> Iterator[Row]:
        """The rows as ms-swift takes them."""
        for row in parts:
            if self.sets[name].labelled:
                yield from labelled(row)
            else:
                yield {field: row[field] for field in ("id", "messages", REJECTED) if field in row}

    def _met_before(self, row: Row, side: str) -> str:
        """Why kto cannot take a pair; empty if it can.

        ms-swift holds each answer against the one of another row, and ends the training where the two are the same.
        """
        own = [text_hash(each["messages"][-1]["content"]) for each in both_answers(row)]
        if any(answer in self.answers[side] for answer in own):
            return ANSWER_TWICE
        self.answers[side].update(own)
        return ""


def _refusal(lengths: Sequence[int], limit: int) -> str:
    """Why the pieces of a row, of so many tokens each, do not go on; empty if they do."""
    if not all(lengths):
        return NOT_ENCODABLE
    return TOO_LONG if not lengths or max(lengths) > limit else ""


def _drop(entry: LedgerEntry, record_id: str, reason: str, removed: IO[bytes], tokens: int | None = None) -> None:
    entry.drop(reason)
    told = {"id": record_id, "step": entry.step, "reason": reason}
    removed.write(to_json_line(told if tokens is None or reason == ONE_SIDE_EMPTY else {**told, "tokens": tokens}))


def _ledger_row(entry: LedgerEntry, pieces: int) -> dict[str, Any]:
    row = entry.check().to_row()
    return row if pieces == entry.rows_out else {**row, "pieces": pieces}


def _grouped(path: Path, numbers: Sequence[int], counts: TokenCounts) -> Iterator[Fitting]:
    rows, lengths, computed = (
        read_json_lines(path),
        iter(counts.by_file.get(path, ())),
        iter(counts.computed.get(path, ())),
    )
    for number in numbers:
        yield list(islice(rows, number)), list(islice(lengths, number)), list(islice(computed, number))


def _check_stages(sets: Mapping[str, SetSettings], manifest: dict[str, Any], ledger: list[dict[str, Any]]) -> None:
    left = {figures["stage"] for figures in manifest["sets"].values()}
    for stage in {settings.stage for settings in sets.values()} - left:
        drops = "; ".join(f"{row['step']}: {row['in']} rows, dropped {row['dropped']}" for row in ledger)
        raise MedllmError(
            f"stage {stage} has no set left with rows for training and for validation ({drops}): "
            "raise max_length, add rows, or switch the stage off"
        )
