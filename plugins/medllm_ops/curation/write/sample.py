"""How many rows of each set, and which: the lowest hashes of seed and id, whatever the order and the workers."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from medllm_ops.curation.settings import CurationSettings, SetSettings
from medllm_ops.errors import MedllmError

log = logging.getLogger(__name__)

Times = npt.NDArray[np.uint8]
"""How often each row is drawn."""


@dataclass(frozen=True, slots=True)
class SetRows:
    """The rows of one set that may be drawn, on both sides: the hash of seed and id, and whether they validate."""

    hashes: npt.NDArray[np.uint64]
    val: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.hashes)

    def capacity(self, max_repeats: int) -> int:
        """How many rows can be drawn: those for training several times, those that validate once."""
        val = int(np.count_nonzero(self.val))
        return val + (len(self) - val) * max_repeats

    @property
    def least(self) -> int:
        """How many rows have to be drawn: one of each side that has one."""
        return int(self.val.any()) + int((~self.val).any())


def draw(sets: Mapping[str, SetRows], settings: CurationSettings) -> dict[str, Times]:
    """Draw the rows of all sets together.

    :raises MedllmError: if ``total`` is less than the counts of single sets, or than a row on each side of each set.
    """
    sets = {name: sets[name] for name in sorted(sets)}
    _tell_missing(sets, settings)
    quotas = _with_both_sides(sets, quota(sets, settings), settings)
    return {name: _lowest(rows, quotas[name], settings.sample.max_repeats) for name, rows in sets.items()}


def _tell_missing(sets: Collection[str], settings: CurationSettings) -> None:
    """Tell the sets that rows are asked of, and those whose names look misspelt. No error: one may come later."""
    for name in sorted({*settings.sets, *settings.sample.drawn} - {*sets}):
        own = settings.sets.get(name, SetSettings())
        asked = name in settings.sample.drawn or own.count is not None or own.weight is not None
        close = difflib.get_close_matches(name, sets, n=1)
        if asked or close:
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(sets) or 'none'}"
            log.warning("the settings name the set %s, of which there are no rows; %s", name, hint)


def quota(sets: Mapping[str, SetRows], settings: CurationSettings) -> dict[str, int]:
    """How many rows are drawn of each set, before each gets one on both sides.

    Sets with a count get it, as far as they have rows; the others share what ``total`` leaves. Without weights and
    temperature, that is so many rows of all of them, drawn uniformly at random.
    """
    sample = settings.sample
    capacity = {name: rows.capacity(sample.max_repeats) for name, rows in sets.items()}
    fixed = {name: min(count, capacity[name]) for name, count in settings.counts.items() if name in sets}
    free = {name: rows for name, rows in sets.items() if name not in fixed}
    total = None if sample.total is None else sample.total - sum(fixed.values())
    if total is not None and total < 0:
        raise MedllmError(f"sample.total is {sample.total}, but single sets are to give {sum(fixed.values())} rows")
    named = {name: weight for name, weight in settings.weights.items() if name in free}
    if not named and sample.temperature == 1:
        rows = sum(map(len, free.values()))
        if total is None:
            return {**{name: len(own) for name, own in free.items()}, **fixed}
        if total <= rows:
            return {**_uniform(free, total), **fixed}
    weights = {name: float(named.get(name, len(rows))) ** (1 / sample.temperature) for name, rows in free.items()}
    room = {name: capacity[name] for name in free}
    return {**fill(_whole(weights, room) if total is None else total, weights, room), **fixed}


def _uniform(sets: Mapping[str, SetRows], total: int) -> dict[str, int]:
    if not total or not sets:
        return dict.fromkeys(sets, 0)
    hashes = np.concatenate([rows.hashes for rows in sets.values()])
    drawn = np.zeros(len(hashes), bool)
    # Two rows with the same hash: the set that comes first in the alphabet.
    drawn[np.argsort(hashes, kind="stable")[:total]] = True
    ends = np.cumsum([len(rows) for rows in sets.values()])[:-1]
    return {name: int(part.sum()) for name, part in zip(sets, np.split(drawn, ends), strict=True)}


def _whole(weights: Mapping[str, float], capacity: Mapping[str, int]) -> int:
    """The most rows at which every set still has its exact share."""
    asked = [name for name, weight in weights.items() if weight > 0 and capacity[name]]
    if not asked:
        return 0
    every = sum(Fraction(weights[name]) for name in asked)
    return int(min(capacity[name] * every / Fraction(weights[name]) for name in asked))


def fill(total: int, weights: Mapping[str, float], capacity: Mapping[str, int]) -> dict[str, int]:
    """Share ``total`` out by weight; what a set cannot give goes to the others, by their weights.

    The sum is ``total``, or all there is. Fractions go to the largest remainders, of equal ones to the first name.
    """
    filled = dict.fromkeys(weights, 0)
    open_ = {name: Fraction(weights[name]) for name in sorted(weights) if weights[name] > 0 and capacity[name]}
    left = total
    while open_:
        every = sum(open_.values())
        full = [name for name, weight in open_.items() if left * weight >= capacity[name] * every]
        if not full:
            break
        for name in full:
            filled[name] = capacity[name]
            left -= capacity[name]
            del open_[name]
    if open_:
        every = sum(open_.values())
        exact = {name: left * weight / every for name, weight in open_.items()}
        filled.update({name: int(share) for name, share in exact.items()})
        ranked = sorted(exact, key=lambda name: (int(exact[name]) - exact[name], name))
        for name in ranked[: left - sum(int(share) for share in exact.values())]:
            filled[name] += 1
    return filled


def _with_both_sides(sets: Mapping[str, SetRows], quotas: dict[str, int], settings: CurationSettings) -> dict[str, int]:
    """Each set gets at least a row on each side; the largest sets without a count of their own give them."""
    quotas = dict(quotas)
    silent = {name for name, weight in settings.weights.items() if weight == 0}
    givers = [name for name in sets if name not in settings.counts]
    for name, rows in sets.items():
        while name not in silent and quotas[name] < rows.least:
            quotas[name] += 1
            if settings.sample.total is None:
                continue
            giver = min(givers, key=lambda one: (sets[one].least - quotas[one], one), default=name)
            if giver == name or quotas[giver] <= sets[giver].least:
                raise MedllmError(
                    f"sample.total is {settings.sample.total}, which leaves no row on each side to set {name}: raise it"
                )
            quotas[giver] -= 1
    return quotas


def _lowest(rows: SetRows, count: int, max_repeats: int) -> Times:
    """Draw the rows of the lowest hashes, each once; then those for training again, from the lowest on."""
    times = np.zeros(len(rows), np.uint8)
    order = np.argsort(rows.hashes, kind="stable")
    once = min(count, len(rows))
    times[order[:once]] = 1
    if 0 < once < len(rows) and once >= rows.least:
        for side in (rows.val, ~rows.val):
            if side.any() and not times[side].any():
                times[order[once - 1]] = 0
                times[order[side[order]][0]] = 1
    again = count - once
    train = order[~rows.val[order]]
    while again > 0 and len(train) and times.max() < max_repeats:
        times[train[:again]] += 1
        again -= len(train)
    return times
