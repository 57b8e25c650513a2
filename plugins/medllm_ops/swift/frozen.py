"""A frozen dataset as a training reads it: what its manifest says of its sets, and their rows. Users make some by hand.

It is a folder with ``manifest.json``, ``train/`` and ``val/``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json

MANIFEST = "manifest.json"
_NUMBERS = ("tokens", "longer_tokens", "max_length", "train", "val")


def sets_of(dataset: Path, stage: str | None = None, needs: tuple[str, ...] = ("tokens",)) -> dict[str, dict[str, Any]]:
    """The sets of a frozen dataset, or those of one stage, as its manifest has them.

    :param needs: figures that each of them must have.
    :raises MedllmError: if the folder holds no dataset that was exported for a recipe, or a figure is missing or wrong.
    """
    file = dataset / MANIFEST
    if not file.is_file():
        raise MedllmError(f"{dataset} is no frozen dataset: it has no {MANIFEST}")
    try:
        manifest = read_json(file)
    except ValueError as error:
        raise MedllmError(f"{file} is not JSON in UTF-8: {error}; export the dataset again") from error
    if not isinstance(manifest, dict) or "sets" not in manifest:
        raise MedllmError(
            f"{dataset} was not exported for a recipe yet: a run's folder dataset/ is; its rows have no tokens counted"
        )
    sets = manifest["sets"]
    if not isinstance(sets, dict):
        raise MedllmError(f"{file}: sets must be a mapping of names")
    for name, figures in sets.items():
        if wrong := _wrong(figures):
            raise MedllmError(f"{file}: sets.{name}{wrong}; export the dataset again")
    chosen = {name: figures for name, figures in sets.items() if stage in (None, figures["stage"])}
    for name, figures in chosen.items():
        if missing := [need for need in needs if need not in figures]:
            raise MedllmError(f"{file}: sets.{name}.{missing[0]} is missing; export the dataset again")
    return chosen


def _wrong(figures: Any) -> str | None:
    """What is wrong with what a manifest says of a set; None: nothing."""
    if not isinstance(figures, dict):
        return " must be a mapping"
    if "stage" not in figures:
        return ".stage is missing"
    if not isinstance(figures.get("hashes", {}), dict):
        return ".hashes must be a mapping"
    for name in _NUMBERS:
        value = figures.get(name, 0)
        if type(value) is not int or value < 0:
            return f".{name} must be a whole number"
    return None


def read_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    """The rows of one file of a frozen dataset.

    :raises MedllmError: naming the line that is no row.
    """
    line, number = b"\n", 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                row = orjson.loads(line)
            except ValueError as error:
                raise MedllmError(f"{path}: line {number} is not JSON in UTF-8: {error}") from error
            if not isinstance(row, dict):
                raise MedllmError(f"{path}: line {number} is no JSON object")
            yield row
    if not line.endswith(b"\n"):
        # ms-swift would train on it, and nobody has counted it.
        raise MedllmError(f"{path}: line {number} has no end: add a newline")
