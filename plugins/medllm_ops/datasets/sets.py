"""From a curated dataset to the sets of each stage, the identity set among them."""

from __future__ import annotations

import heapq
import itertools
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Final, TypeAlias

from medllm_ops.datasets.identity import SET_NAME, Identity, identity_rows, mix, rank
from medllm_ops.datasets.pairs import REJECTED
from medllm_ops.datasets.store import SIDES
from medllm_ops.errors import MedllmError
from medllm_ops.files import (
    file_hash,
    make_once,
    read_json_lines,
    text_hash,
    to_json_line,
    write_json,
    write_json_lines,
)
from medllm_ops.records import LedgerEntry
from medllm_ops.sources.preference import are_equal

STEP: Final = "sets"
STAGE_OFF: Final = "its stage is off"
OTHER_SET: Final = "not among the recipe's preference_sets"
GATE_QUESTION: Final = "asks a question of the identity gate"
EQUAL: Final = "both answers are equal"
_FIELDS: Final = ("id", "messages", REJECTED)

Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class IdentitySettings:
    """How the self-cognition set is made.

    :param rows: rows with placeholders; :param identity: what goes into them.
    :param identity_rows: how many of them, over both sides; ``instruction_rows`` likewise.
    :param val_share: the share of both for validation.
    :param instruction_sets: the sources that the instruction rows are drawn from, those of them that the run has; none
        named means all of instruction tuning, or of pretraining where that is off.
    """

    rows: Path
    identity: Identity
    identity_rows: int
    instruction_rows: int
    val_share: float
    seed: int
    instruction_sets: tuple[str, ...] = ()


def stage_of(row: Mapping[str, Any]) -> str:
    """The stage that trains on a record: ``pretrain`` for a text, ``sft`` for a dialogue, ``dpo`` for a preference."""
    if REJECTED in row:
        return "dpo"
    return "pretrain" if [message["role"] for message in row["messages"]] == ["assistant"] else "sft"


def arrange(
    curated: Path,
    sources: Collection[str],
    stages: Collection[str],
    identity: IdentitySettings | None,
    out: Path,
    preference_sets: Collection[str] = (),
    gate_questions: Collection[str] = (),
) -> None:
    """Write ``out/train`` and ``out/val``, one file for each set, whole or not at all.

    A source whose rows train two stages makes two sets, ``<source>_<stage>``. ``out`` gets ``sets.json`` (set name to
    stage), ``removed.jsonl`` and ``ledger.json`` beside them.

    :param curated: what curation left: ``train/<source>.jsonl``, ``val/<source>.jsonl``, ``manifest.json``.
    :param sources: those to take of it.
    :param stages: the stages that are on; rows of others are left out, and counted.
    :param preference_sets: the sources that pairs are taken of; none named means all.
    :param gate_questions: what the identity gate asks; a model that was taught its answers would prove nothing.
    """
    asked = frozenset(map(_signs, gate_questions))
    settings = repr(replace(identity, rows=Path(identity.rows.name))) if identity else ""
    files = [curated / "manifest.json", *([identity.rows] if identity else [])]
    inputs = [[file_hash(path) for path in files], sorted(sources), sorted(stages), settings, sorted(preference_sets)]
    inputs.append(sorted(asked))
    make_once(out, inputs, lambda folder: _write(curated, sources, stages, identity, folder, preference_sets, asked))


def _write(
    curated: Path,
    sources: Collection[str],
    stages: Collection[str],
    identity: IdentitySettings | None,
    folder: Path,
    preference_sets: Collection[str],
    asked: frozenset[str],
) -> None:
    sets: dict[str, str] = {}
    names: dict[str, list[str]] = {}
    ledger: list[Row] = []
    with (folder / "removed.jsonl").open("wb") as removed:
        for source in sorted(sources):
            made = _Source(source, stages, folder, removed, not preference_sets or source in preference_sets, asked)
            for side in SIDES:
                made.add(curated / side / f"{source}.jsonl", side)
            own = made.finish()
            names[source] = list(own)
            sets |= own
            ledger += [entry.check().to_row() for entry in made.entries.values()]
    if identity:
        ledger.append(_identity_set(identity, sets, names, folder))
        sets[SET_NAME] = SET_NAME
    write_json(folder / "sets.json", sets)
    write_json(folder / "ledger.json", ledger)


@dataclass(slots=True)
class _Source:
    """Writes the rows of one source, stage by stage.

    ``pairs`` says whether its pairs are wanted; ``asked`` is what no row may ask.
    """

    name: str
    stages: Collection[str]
    folder: Path
    removed: IO[bytes]
    pairs: bool
    asked: frozenset[str]
    entries: dict[str, LedgerEntry] = field(default_factory=dict)

    def add(self, path: Path, side: str) -> None:
        """Take the rows of one side."""
        (self.folder / side).mkdir(exist_ok=True)
        with ExitStack() as stack:
            files: dict[str, IO[bytes]] = {}
            for row in read_json_lines(path):
                stage = stage_of(row)
                entry = self.entries.setdefault(stage, LedgerEntry(f"{STEP} {self.name}_{stage}"))
                entry.rows_in += 1
                if reason := self._refusal(stage, row):
                    entry.drop(reason)
                    self.removed.write(to_json_line({"id": row["id"], "step": STEP, "reason": reason}))
                    continue
                entry.rows_out += 1
                if stage not in files:
                    files[stage] = stack.enter_context(self._draft(side, stage).open("wb"))
                files[stage].write(to_json_line({name: row[name] for name in _FIELDS if name in row}))

    def _refusal(self, stage: str, row: Row) -> str:
        """Why a row does not go on; empty if it does."""
        if stage not in self.stages:
            return STAGE_OFF
        if stage == "dpo" and not self.pairs:
            return OTHER_SET
        # What they differed in may have been scrubbed since they were converted.
        if stage == "dpo" and are_equal(row[REJECTED], row["messages"][-1]["content"]):
            return EQUAL
        if any(turn["role"] == "user" and _signs(turn["content"]) in self.asked for turn in row["messages"]):
            return GATE_QUESTION
        return ""

    def _draft(self, side: str, stage: str) -> Path:
        return self.folder / side / f"{self.name}.{stage}.part"

    def finish(self) -> dict[str, str]:
        """Give the files their names, and return the sets: name to stage."""
        sets = {}
        for stage, entry in sorted(self.entries.items()):
            name = self.name if len(self.entries) == 1 else f"{self.name}_{stage}"
            entry.step = f"{STEP} {name}"
            if stage in self.stages:
                sets[name] = stage
                for side in SIDES:
                    draft = self._draft(side, stage)
                    draft.touch()
                    draft.rename(draft.with_name(f"{name}.jsonl"))
        return sets


def _signs(text: str) -> str:
    """A question without what may differ in its form: width and case of letters, punctuation and blanks."""
    return "".join(sign for sign in unicodedata.normalize("NFKC", text).casefold() if sign.isalnum())


def _identity_set(
    settings: IdentitySettings, sets: Mapping[str, str], names: Mapping[str, list[str]], folder: Path
) -> Row:
    """Write the identity rows of each side, mixed with instruction rows of the same side."""
    own = identity_rows(settings.rows, settings.identity)
    if len(own) < len(SIDES):
        raise MedllmError(f"{settings.rows} has {len(own)} rows: training and validation need one each at least")
    ranked = sorted(own, key=lambda row: text_hash(f"split:{row['id']}"))
    held_out = min(max(1, round(len(own) * settings.val_share)), len(own) - 1)
    wanted = settings.instruction_sets
    chosen = [name for source in wanted for name in names.get(source, ())]
    if wanted and not chosen:
        raise MedllmError(f"self-cognition mixes in rows of {', '.join(wanted)}, but this run has none of them")
    if not wanted:
        of = {stage: [name for name in sets if sets[name] == stage] for stage in ("sft", "pretrain")}
        chosen = of["sft"] or of["pretrain"]
    entry = LedgerEntry(f"{STEP} {SET_NAME}")
    for side, share in (("train", 1 - settings.val_share), ("val", settings.val_share)):
        counts = (round(settings.identity_rows * share), round(settings.instruction_rows * share))
        drawn = [_lowest(read_json_lines(folder / side / f"{name}.jsonl"), counts[1], settings.seed) for name in chosen]
        rows = mix(
            ranked[held_out:] if side == "train" else ranked[:held_out],
            _evenly(drawn, counts[1]),
            counts,
            settings.seed,
        )
        entry.rows_in += len(rows)
        entry.rows_out += write_json_lines(
            folder / side / f"{SET_NAME}.jsonl", ({"id": row["id"], "messages": row["messages"]} for row in rows)
        )
    return entry.check().to_row()


def _lowest(rows: Iterable[Row], count: int, seed: int) -> list[Row]:
    """The rows that a draw of so many takes: of millions, only those are held."""
    return heapq.nsmallest(count, rows, key=lambda row: rank(row, seed))


def _evenly(sets: Iterable[Sequence[Row]], count: int) -> list[Row]:
    """So many rows, as many of each set; what a small one lacks comes of the others, or a large one would be all."""
    turns = itertools.zip_longest(*sets)
    return list(itertools.islice((row for turn in turns for row in turn if row), count))
