"""The frozen dataset: train and validation files in the ms-swift format, with no row that swift would drop."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from medllm_ops.errors import MedllmError
from medllm_ops.files import file_hash, make_once, read_json, read_json_lines, write_json, write_json_lines
from medllm_ops.records import LedgerEntry

TOO_LONG = "longer than max_length"
NOT_ENCODABLE = "refused by the template"
ONE_SIDE_EMPTY = "set without rows on both sides"
SIDES = ("train", "val")


@dataclass(frozen=True, slots=True)
class SetSettings:
    """How one set is exported.

    :param stage: the stage that trains on it: ``pretrain``, ``sft`` or ``self_cognition``.
    :param max_length: the most tokens of a row, the template's included; None is the model's own maximum.
    """

    stage: str
    max_length: int | None


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """The tokens of each row of each file, in order, template included; 0 where the template refuses the row."""

    by_file: Mapping[Path, list[int]]
    model_maximum: int | None


# From files and the stage that trains on each to counts by the model's own tokenizer and template.
TokenCounter: TypeAlias = Callable[[Mapping[Path, str]], TokenCounts]


def export(
    source: Path, sets: Mapping[str, SetSettings], count_tokens: TokenCounter, out: Path, context: Any = None
) -> dict[str, Any]:
    """Write ``out/train`` and ``out/val`` from the split rows, whole or not at all, and return the manifest.

    A set whose rows do not reach both sides is left out, counted: without validation nobody sees what it does.

    :param source: a folder with ``train/<set>.jsonl`` and ``val/<set>.jsonl``.
    :param context: what else decides the counts (the model, the template), as JSON.
    :raises MedllmError: if a stage is left without any set.
    :raises LedgerError: if the counts do not balance.
    """
    files = {source / side / f"{name}.jsonl": settings.stage for name, settings in sets.items() for side in SIDES}
    inputs = [[path.name, file_hash(path)] for path in files]
    settings_row = {name: [settings.stage, settings.max_length] for name, settings in sets.items()}
    make_once(out, [inputs, settings_row, context], lambda folder: _write(source, sets, count_tokens(files), folder))
    return dict(read_json(out / "manifest.json"))


def _write(source: Path, sets: Mapping[str, SetSettings], counts: TokenCounts, folder: Path) -> None:
    manifest: dict[str, Any] = {"sets": {}}
    ledger: list[dict[str, Any]] = []
    removed: list[dict[str, Any]] = []
    for name, settings in sets.items():
        limit = min(length for length in (settings.max_length, counts.model_maximum, sys.maxsize) if length)
        entry = LedgerEntry(f"export {name}")
        kept: dict[str, list[dict[str, Any]]] = {}
        tokens = 0
        for side in SIDES:
            path = source / side / f"{name}.jsonl"
            kept[side] = []
            for row, length in zip(read_json_lines(path), counts.by_file[path], strict=True):
                entry.rows_in += 1
                if reason := NOT_ENCODABLE if length == 0 else TOO_LONG if length > limit else None:
                    entry.drop(reason)
                    removed.append({"id": row["id"], "step": entry.step, "reason": reason, "tokens": length})
                else:
                    kept[side].append({"id": row["id"], "messages": row["messages"]})
                    tokens += length if side == "train" else 0
        if all(kept.values()):
            paths = {side: folder / side / f"{name}.jsonl" for side in SIDES}
            rows = {side: write_json_lines(paths[side], kept[side]) for side in SIDES}
            entry.rows_out = sum(rows.values())
            hashes = {side: file_hash(path) for side, path in paths.items()}
            figures = {"stage": settings.stage, "max_length": limit, "tokens": tokens, "hashes": hashes}
            manifest["sets"][name] = {**figures, **rows}
        else:
            for row in [*kept["train"], *kept["val"]]:
                entry.drop(ONE_SIDE_EMPTY)
                removed.append({"id": row["id"], "step": entry.step, "reason": ONE_SIDE_EMPTY})
        ledger.append(entry.check().to_row())
    _check_stages(sets, manifest, ledger)
    write_json_lines(folder / "removed.jsonl", removed)
    write_json(folder / "ledger.json", ledger)
    write_json(folder / "manifest.json", manifest)


def _check_stages(sets: Mapping[str, SetSettings], manifest: dict[str, Any], ledger: list[dict[str, Any]]) -> None:
    left = {figures["stage"] for figures in manifest["sets"].values()}
    for stage in {settings.stage for settings in sets.values()} - left:
        drops = "; ".join(f"{row['step']}: {row['in']} rows, dropped {row['dropped']}" for row in ledger)
        raise MedllmError(
            f"stage {stage} has no set left with rows for training and for validation ({drops}): "
            "raise max_length, add rows, or switch the stage off"
        )
