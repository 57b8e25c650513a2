"""The way of the rows through the steps, as tables to print."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from medllm_ops.curation.settings import STEPS
from medllm_ops.files import read_json

Entry = Mapping[str, Any]


def read_ledger(folder: Path) -> list[Entry]:
    """The entries of a folder's ``ledger.json``: ``step``, ``source``, ``in``, ``out`` and ``dropped``."""
    ledger: list[Entry] = read_json(folder / "ledger.json")
    return ledger


def by_step(ledger: Iterable[Entry]) -> dict[str, tuple[int, int, Counter[str]]]:
    """Of each step what came in, what went out, and what was dropped for which reason, of all sources."""
    steps: dict[str, tuple[int, int, Counter[str]]] = {}
    for entry in ledger:
        rows_in, rows_out, dropped = steps.get(entry["step"], (0, 0, Counter()))
        steps[entry["step"]] = (rows_in + entry["in"], rows_out + entry["out"], dropped + Counter(entry["dropped"]))
    return {step: steps[step] for step in STEPS if step in steps}


def tables(ledger: Sequence[Entry], sources: Mapping[str, Mapping[str, Any]]) -> list[Table]:
    """A table of the steps and one of the sources.

    :param sources: of a manifest: source to what it has on each side.
    """
    return [_steps(ledger), _sources(ledger, sources)]


def _steps(ledger: Sequence[Entry]) -> Table:
    table = _table("step", "in", "out", "dropped")
    table.add_column("reason")
    for step, (rows_in, rows_out, dropped) in by_step(ledger).items():
        rows = [
            (f"{count:,}", reason) for reason, count in sorted(dropped.items(), key=lambda item: (-item[1], item[0]))
        ]
        for number, (count, reason) in enumerate(rows or [("", "")]):
            head = (step, f"{rows_in:,}", f"{rows_out:,}") if number == 0 else ("", "", "")
            table.add_row(*head, count, reason)
    return table


def _sources(ledger: Sequence[Entry], sources: Mapping[str, Mapping[str, Any]]) -> Table:
    table = _table("source", "in", "removed", "train", "val")
    lines: Counter[str] = Counter()
    removed: Counter[str] = Counter()
    for entry in ledger:
        if entry["step"] == STEPS[0]:
            lines[entry["source"]] += entry["in"]
        removed[entry["source"]] += sum(entry["dropped"].values())
    for source in sorted(lines | Counter(dict.fromkeys(sources, 0))):
        sides = sources.get(source, {"train": 0, "val": 0})
        figures = (lines[source], removed[source], sides["train"], sides["val"])
        table.add_row(source or "(no source)", *(f"{figure:,}" for figure in figures))
    return table


def _table(name: str, *figures: str) -> Table:
    table = Table(box=None)
    table.add_column(name)
    for figure in figures:
        table.add_column(figure, justify="right")
    return table
