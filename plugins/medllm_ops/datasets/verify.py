"""Prove that a frozen dataset is as it was built."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from medllm_ops.curation.write.index import FOLDER, Hashes, forms, hash_of, hashes_of, line_ids
from medllm_ops.datasets.ids import held, read_index
from medllm_ops.datasets.store import MANIFEST, REPORT, SIDES, Dataset
from medllm_ops.errors import MedllmError
from medllm_ops.files import count_lines, file_hash, read_json, text_hash, to_json_line

_AT_ONCE = 100_000


def files_of(directory: Path) -> dict[str, str]:
    """The hash of each file of a dataset but its manifest, by its name below the folder.

    ``report/`` says what is in the dataset, is no part of it, and may be made anew at any time.
    """
    files = (path for path in directory.rglob("*") if path.is_file() and path != directory / MANIFEST)
    paths = sorted(path for path in files if path.relative_to(directory).parts[0] != REPORT)
    return {path.relative_to(directory).as_posix(): file_hash(path) for path in paths}


def content_of(files: dict[str, str]) -> str:
    """One hash for all files."""
    return text_hash(to_json_line(dict(sorted(files.items()))).decode())


def verify(dataset: Dataset) -> Iterator[str]:
    """Yield a sentence for each thing that is wrong with a dataset; a sound one yields nothing.

    Everything is read once: hashes and counts must be those of the manifest, the ledger must balance from the first
    step to the rows that were written, every row must be in the index, and no record on both sides.
    """
    manifest = dataset.manifest
    for check in (_wrong_files, _wrong_ledger, _wrong_rows, _wrong_sides):
        try:
            yield from check(dataset, manifest)
        except MedllmError as error:
            yield str(error)
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            yield f"{check.__name__.removeprefix('_wrong_')} cannot be checked: {error!r}"


def _wrong_files(dataset: Dataset, manifest: dict[str, Any]) -> Iterator[str]:
    if "files" not in manifest:
        for side, source, path in dataset.files():
            said = manifest["sources"].get(source, {}).get("hashes", {}).get(side)
            if said != file_hash(path):
                yield f"{side}/{path.name} is not the file that the manifest says"
        return
    said, found = manifest["files"], files_of(dataset.directory)
    for name in sorted(said.keys() | found.keys()):
        if name not in found:
            yield f"{name} is missing"
        elif name not in said:
            yield f"{name} does not belong here: the manifest does not have it"
        elif found[name] != said[name]:
            yield f"{name} was changed: its hash is {found[name]}, the manifest says {said[name]}"
    if manifest.get("content") != content_of(said):
        yield "the manifest was changed: its hash of all files is not that of the list of files"


def _wrong_ledger(dataset: Dataset, manifest: dict[str, Any]) -> Iterator[str]:
    """Each step takes in what the one before it gave out; what was dropped is in ``removed.jsonl``."""
    ledger = read_json(dataset.directory / "ledger.json")
    if manifest.get("ledger", ledger) != ledger:
        yield "ledger.json is not the ledger of the manifest"
    before: dict[str, tuple[str, int]] = {}
    dropped: Counter[str] = Counter()
    for row in ledger:
        source = row.get("source", "")
        where = f"ledger, {row['step']} of {source or 'all sources'}"
        if row["in"] != row["out"] + sum(row["dropped"].values()):
            yield f"{where}: {row['in']} in is not {row['out']} out and {sum(row['dropped'].values())} dropped"
        step, out = before.get(source, ("", row["in"]))
        if row["in"] != out:
            yield f"{where}: {row['in']} came in, but {out} went out of {step}"
        before[source] = (row["step"], row["out"])
        dropped[row["step"]] += sum(row["dropped"].values())
    removed = count_lines(dataset.directory / "removed.jsonl")
    if removed != dropped.total():
        yield f"removed.jsonl has {removed} lines, but {dropped.total()} rows were dropped"
    for source, figures in manifest["sources"].items():
        pieces = [row["pieces"] for row in ledger if row.get("source") == source and "pieces" in row]
        written = pieces[-1] if pieces else before.get(source, ("", 0))[1]
        said = sum(figures.get(side, 0) for side in SIDES)
        if said != written:
            yield f"{source}: the manifest says {said} rows, the ledger {written}"


def _wrong_rows(dataset: Dataset, manifest: dict[str, Any]) -> Iterator[str]:
    """Count the rows, and look each up in the index."""
    indexes = {(index.side, index.source): index for index in read_index(dataset)}
    counts: Counter[tuple[str, str]] = Counter()
    for side, source, path in dataset.files():
        ids = indexes[side, source].ids
        seen = np.zeros(len(ids), bool)
        names: list[str] = []
        for name, _ in line_ids(path):
            counts[side, source] += 1
            names.append(name)
            if len(names) == _AT_ONCE:
                yield from _not_held(names, ids, seen, f"{side}/{path.name}")
                names.clear()
        yield from _not_held(names, ids, seen, f"{side}/{path.name}")
        if (lacking := len(ids) - int(seen.sum())) and _is_written(dataset, side, source):
            yield f"the index of {side}/{path.name} names {lacking} records that have no row"
    for source, figures in manifest["sources"].items():
        for side in SIDES:
            if counts[side, source] != figures.get(side, 0):
                yield f"{side}/{source}.jsonl has {counts[side, source]} rows, the manifest says {figures.get(side, 0)}"


def _is_written(dataset: Dataset, side: str, source: str) -> bool:
    return (dataset.directory / FOLDER / side / f"{source}.npy").is_file()


def _not_held(names: list[str], ids: Hashes, seen: Any, where: str) -> Iterator[str]:
    if not names:
        return
    whole = hashes_of(names)
    found = held(ids, whole)
    seen[np.searchsorted(ids, whole[found])] = True
    for place in np.flatnonzero(~found).tolist():
        others = [form for form in forms(names[place])[1:] if held(ids, hashes_of([form]))[0]]
        if others:
            seen[np.searchsorted(ids, np.uint64(hash_of(others[0])))] = True
        else:
            yield f"{where}: the row {names[place]} is not in the index"


def _wrong_sides(dataset: Dataset, manifest: dict[str, Any]) -> Iterator[str]:
    """No record may stand on both sides, nor in two sources."""
    sides: dict[str, list[Hashes]] = {side: [] for side in SIDES}
    for index in read_index(dataset):
        if _is_written(dataset, index.side, index.source):
            sides[index.side].append(index.ids)
    train, val = (np.concatenate([np.empty(0, np.uint64), *sides[side]]) for side in SIDES)
    both = np.intersect1d(train, val)
    if not len(both):
        return
    wanted, told = {*both.tolist()}, set()
    for _, _, path in dataset.files():
        told |= {form for name, _ in line_ids(path) for form in forms(name) if hash_of(form) in wanted}
    for name in sorted(told):
        yield f"{name} stands on both sides"
