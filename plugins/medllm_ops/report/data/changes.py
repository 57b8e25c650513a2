"""Which rows of a dataset are new, changed, gone or on another side than in the one before it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import xxhash

from medllm_ops.files import to_json_line
from medllm_ops.report.data.contents import Contents, Numbers, read_contents
from medllm_ops.report.data.dataset import SAMPLES, DatasetFiles, Removed
from medllm_ops.report.data.drift import drifts
from medllm_ops.report.data.model import SIDES, ChangedRow, Comparison, RowChanges, Sample
from medllm_ops.report.data.text import excerpt, first_difference

_SHOWN_IDS: Final = 50
# No file has this number.
_NOWHERE: Final = 65535


def compare(old: DatasetFiles, new: DatasetFiles, contents: Contents, removed: Removed) -> Comparison:
    """Compare with the previous dataset.

    :param contents: of the new one.
    :param removed: of the new one.
    """
    before = read_contents(old)
    _, at_old, at_new = np.intersect1d(before.ids, contents.ids, return_indices=True)
    changed = np.column_stack((at_old, at_new))[before.texts[at_old] != contents.texts[at_new]]
    retracted = _among(removed.retracted, before)
    return Comparison(
        previous=old.folder.name,
        drifts=list(drifts(old, new, before, contents)),
        rows=list(_by_source(before, contents, (at_old, at_new))),
        changed=[_changed(before, contents, *pair) for pair in _first(changed)],
        new=[_sample(contents, number) for number in _first(_rest(contents, at_new))],
        gone=[_sample(before, number) for number in _first(_rest(before, at_old))],
        retracted=len(retracted),
        retracted_ids=retracted[:_SHOWN_IDS],
        settings=list(setting_changes(old.manifest.get("settings", {}), new.manifest.get("settings", {}))),
    )


def _by_source(old: Contents, new: Contents, met: tuple[Numbers, Numbers]) -> Iterator[RowChanges]:
    at_old, at_new = met
    was, now = old.file[at_old], new.file[at_new]
    changed = old.texts[at_old] != new.texts[at_new]
    places_before, places_now = (
        {(file.source, file.side): n for n, file in enumerate(one.files)} for one in (old, new)
    )
    for source in sorted({source for source, _ in (*places_before, *places_now)}):
        before, here = (
            [places.get((source, side), _NOWHERE) for side in SIDES] for places in (places_before, places_now)
        )
        stayed = ((was == before[0]) & (now == here[0])) | ((was == before[1]) & (now == here[1]))
        to_val, to_train = (_count((was == before[one]) & (now == here[1 - one])) for one in (0, 1))
        kept = _count(stayed) + to_val + to_train
        yield RowChanges(
            source=source,
            before=(rows_before := _count(np.isin(old.file, before))),
            now=(rows_now := _count(np.isin(new.file, here))),
            same=_count(stayed & ~changed),
            changed=_count(stayed & changed),
            # A row that another source has now is gone from this one.
            new=rows_now - kept,
            gone=rows_before - kept,
            to_train=to_train,
            to_val=to_val,
        )


def _count(chosen: Numbers) -> int:
    return int(np.count_nonzero(chosen))


def _rest(contents: Contents, met: Numbers) -> Numbers:
    return np.setdiff1d(np.arange(len(contents.ids)), met)


def _first(numbers: Numbers) -> list[Any]:
    """Some of them: rows are in the order of a hash, so the first ones are as good as any."""
    chosen: list[Any] = numbers[:SAMPLES].tolist()
    return chosen


def _sample(contents: Contents, number: int) -> Sample:
    file, id_, text = contents.row(number)
    return Sample(id=id_, source=file.source, side=file.side, excerpt=excerpt(text))


def _changed(old: Contents, new: Contents, at_old: int, at_new: int) -> ChangedRow:
    _, _, before = old.row(at_old)
    file, id_, now = new.row(at_new)
    place = first_difference(before, now)
    return ChangedRow(id=id_, source=file.source, before=excerpt(before, place), now=excerpt(now, place))


def _among(ids: list[str], contents: Contents) -> list[str]:
    """Those of the ids that the dataset has; a row that was cut goes by the name of its first piece."""
    if not len(contents.ids):
        return []
    found = []
    for id_ in ids:
        hashes = np.array([id_hash(name) for name in (id_, f"{id_}#1")], np.uint64)
        places = np.minimum(np.searchsorted(contents.ids, hashes), len(contents.ids) - 1)
        if (contents.ids[places] == hashes).any():
            found.append(id_)
    return found


def id_hash(id_: str) -> int:
    """The hash of an id, as it stands in a line of a dataset."""
    return xxhash.xxh3_64_intdigest(to_json_line(id_)[1:-2])


def setting_changes(old: Any, new: Any, name: str = "") -> Iterator[str]:
    """Settings that have another value now, as ``chunk.max_tokens: 2048 → 1024``."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from setting_changes(old.get(key), new.get(key), f"{name}.{key}" if name else str(key))
    elif old != new:
        yield f"{name}: {_value(old)} → {_value(new)}"


def _value(value: Any) -> str:
    return "not set" if value is None else to_json_line(value).decode().strip()
