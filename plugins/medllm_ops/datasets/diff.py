"""What became of the records between two datasets, told by their indexes: no text is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from medllm_ops.curation.write.index import Hashes, forms, hashes_of, line_ids
from medllm_ops.datasets.ids import held, read_index
from medllm_ops.datasets.store import SIDES, Dataset

ADDED, REMOVED, CHANGED, MOVED, SAME = "added", "removed", "changed", "moved", "same"
KINDS = (ADDED, REMOVED, CHANGED, MOVED, SAME)


@dataclass(frozen=True, slots=True)
class Diff:
    """``records``: by source and side, how many were added, removed, changed, moved to this side, and are the same.

    ``licences``: by source, the rows by licence before and after, where they differ. ``settings``, ``other``: what of
    the manifests differs, by its dotted name, before and after.
    """

    records: dict[tuple[str, str], Counter[str]]
    licences: dict[str, tuple[Any, Any]]
    settings: dict[str, tuple[Any, Any]]
    other: dict[str, tuple[Any, Any]]

    def to_row(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "records": [
                {"source": source, "side": side, **{kind: counts[kind] for kind in KINDS}}
                for (source, side), counts in self.records.items()
            ],
            **{name: {key: list(pair) for key, pair in getattr(self, name).items()} for name in _PARTS},
        }


_PARTS = ("licences", "settings", "other")
_OTHER = ("corpus.url", "corpus.version", "seed", "tokenizer", "code", "content")


@dataclass(frozen=True, slots=True)
class _Side:
    ids: Hashes
    texts: Hashes


_NOTHING = _Side(np.empty(0, np.uint64), np.empty(0, np.uint64))


def diff(old: Dataset, new: Dataset) -> Diff:
    """Compare two datasets, record by record.

    :raises MedllmError: if one of them is damaged.
    """
    before, after = _sides(old), _sides(new)
    sources = sorted({source for source, _ in before.keys() | after.keys()})
    records = {
        (source, side): _count(before, after, source, side, other)
        for source in sources
        for side, other in (SIDES, SIDES[::-1])
    }
    one, two = old.manifest, new.manifest
    licences = {
        source: pair for source in sources if (pair := (_licences(one, source), _licences(two, source)))[0] != pair[1]
    }
    settings = _differing(_flat(one.get("settings", {})), _flat(two.get("settings", {})))
    plain = [{name: _at(manifest, name) for name in _OTHER} for manifest in (one, two)]
    plain[0]["evalsets"], plain[1]["evalsets"] = one.get("evalsets"), two.get("evalsets")
    return Diff(records, licences, settings, _differing(*plain))


def differing_ids(old: Dataset, new: Dataset) -> Iterator[dict[str, str]]:
    """Each record that was added, removed, changed or moved; both datasets are read, line by line.

    :return: ``id``, ``source``, ``side`` (where it is; of a removed one, where it was), ``what``.
    """
    before, after = _sides(old), _sides(new)
    for dataset, kinds in ((old, (REMOVED,)), (new, (ADDED, CHANGED, MOVED))):
        for side, source, path in dataset.files():
            other = SIDES[1 - SIDES.index(side)]
            told = _kinds(before, after, source, side, other)
            wanted = {number: kind for kind in kinds for number in told[kind].tolist()}
            for name, _ in line_ids(path) if wanted else ():
                for form, number in zip(found := forms(name), hashes_of(found).tolist(), strict=True):
                    if kind := wanted.pop(number, None):
                        yield {"id": form, "source": source, "side": side, "what": kind}


def _sides(dataset: Dataset) -> dict[tuple[str, str], _Side]:
    return {(index.source, index.side): _Side(index.ids, index.texts) for index in read_index(dataset)}


def _kinds(
    before: dict[tuple[str, str], _Side], after: dict[tuple[str, str], _Side], source: str, side: str, other: str
) -> dict[str, Hashes]:
    """The hashes of the ids of each kind."""
    was, now = before.get((source, side), _NOTHING), after.get((source, side), _NOTHING)
    was_there, now_there = before.get((source, other), _NOTHING), after.get((source, other), _NOTHING)
    common, one, two = np.intersect1d(was.ids, now.ids, assume_unique=True, return_indices=True)
    is_same = was.texts[one] == now.texts[two]
    new, gone = now.ids[~held(was.ids, now.ids)], was.ids[~held(now.ids, was.ids)]
    moved = held(was_there.ids, new)
    return {
        ADDED: new[~moved],
        MOVED: new[moved],
        REMOVED: gone[~held(now_there.ids, gone)],
        CHANGED: common[~is_same],
        SAME: common[is_same],
    }


def _count(
    before: dict[tuple[str, str], _Side], after: dict[tuple[str, str], _Side], source: str, side: str, other: str
) -> Counter[str]:
    return Counter({kind: len(found) for kind, found in _kinds(before, after, source, side, other).items()})


def _licences(manifest: dict[str, Any], source: str) -> Any:
    return manifest["sources"].get(source, {}).get("licences")


def _at(manifest: Any, name: str) -> Any:
    for part in name.split("."):
        manifest = manifest.get(part) if isinstance(manifest, dict) else None
    return manifest


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings by dotted names."""
    if not isinstance(value, dict) or not value:
        return {prefix: value} if prefix else {}
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    return found


def _differing(one: dict[str, Any], two: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {
        name: (one.get(name), two.get(name))
        for name in sorted(one.keys() | two.keys())
        if one.get(name) != two.get(name)
    }
