"""How far the distributions of a dataset moved since the one before it.

The population stability index of two distributions p and q is Σ (p − q) · ln(p / q), the symmetrised Kullback-Leibler
divergence.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from statistics import NormalDist
from typing import Final, Literal, TypeAlias

from medllm_ops.report.data.contents import Contents
from medllm_ops.report.data.dataset import DatasetFiles
from medllm_ops.report.data.model import Bin, Drift, Stability

# E. M. Lewis, An Introduction to Credit Scoring (1994); N. Siddiqi, Credit Risk Scorecards (2006): below 0.10 no
# significant change, from 0.10 to 0.25 one to look into, above 0.25 a significant one.
MODERATE: Final = 0.10
SIGNIFICANT: Final = 0.25
# An empty bin would make the index infinite; this share in its place is usual.
SMALLEST_SHARE: Final = 1e-4
# B. Yurdakul, Statistical Properties of Population Stability Index (2018): of two samples of one population, the index
# divided by (1/n + 1/m) has a chi-square distribution with one degree of freedom less than there are bins.
CHANCE: Final = 0.99
CHARACTER_BINS: Final = 20

What: TypeAlias = Literal["sources", "languages", "lengths", "characters"]
Weights: TypeAlias = Mapping[str, float]


def drifts(old: DatasetFiles, new: DatasetFiles, old_contents: Contents, new_contents: Contents) -> Iterator[Drift]:
    """The drift of everything together, then that of each source that is in both."""
    rows = [{name: float(each["train"] + each["val"]) for name, each in one.sources.items()} for one in (old, new)]
    if not all(sum(counts.values()) for counts in rows):
        return
    names = sorted({*rows[0], *rows[1]})
    yield compare("sources", None, names, rows[0], rows[1])
    both = [name for name in names if rows[0].get(name) and rows[1].get(name)]
    for source in (None, *both):
        sizes = [sum(counts.values()) if source is None else counts[source] for counts in rows]
        languages = [_languages(one, source) for one in (old, new)]
        if all(languages):
            yield compare("languages", source, _by_share(languages), languages[0], languages[1], sizes=sizes)
        lengths = [_lengths(one, source) for one in (old, new)]
        if all(lengths):
            bins = sorted({*lengths[0], *lengths[1]}, key=int)
            yield compare("lengths", source, bins, lengths[0], lengths[1], sizes=sizes)
        characters = [_characters(one, source) for one in (old_contents, new_contents)]
        read = [_rows_read(one, source) for one in (old_contents, new_contents)]
        if all(characters):
            before, now = in_bins(*characters)
            yield compare("characters", source, list(before), before, now, sizes=read)


def compare(
    what: What,
    source: str | None,
    names: Sequence[str],
    before: Weights,
    now: Weights,
    sizes: Sequence[float] | None = None,
) -> Drift:
    """The drift of one distribution.

    :param names: the bins, in the order in which they are told.
    :param sizes: how many rows stand behind ``before`` and ``now``; their sums by default.
    """
    shares = [_shares(names, weights) for weights in (before, now)]
    index = psi(*shares)
    old_size, new_size = sizes or (sum(before.values()), sum(now.values()))
    chance = chance_of(len(names), old_size, new_size)
    bins = [Bin(name=name, before=one, now=other) for name, one, other in zip(names, *shares, strict=True)]
    stability: Stability = "significant" if index > SIGNIFICANT else "moderate" if index >= MODERATE else "stable"
    if index <= chance:
        stability = "stable"
    return Drift(what=what, source=source, psi=index, chance=chance, stability=stability, bins=bins)


def psi(before: Sequence[float], now: Sequence[float]) -> float:
    """The index of two lists of shares; 0 where they are equal."""
    pairs = [(max(one, SMALLEST_SHARE), max(other, SMALLEST_SHARE)) for one, other in zip(before, now, strict=True)]
    return math.fsum((other - one) * math.log(other / one) for one, other in pairs)


def chance_of(bins: int, before: float, now: float) -> float:
    """What the index of two samples of one population stays below in 99 of 100 cases.

    The quantile of chi-square is Wilson and Hilferty's approximation (1931).
    """
    freedom = bins - 1
    if freedom < 1 or before <= 0 or now <= 0:
        return 0.0
    spread = 2 / (9 * freedom)
    quantile = freedom * (1 - spread + NormalDist().inv_cdf(CHANCE) * math.sqrt(spread)) ** 3
    return quantile * (1 / before + 1 / now)


def _shares(names: Sequence[str], weights: Weights) -> list[float]:
    total = sum(weights.values())
    return [weights.get(name, 0) / total if total else 0.0 for name in names]


def _by_share(counts: Iterable[Weights]) -> list[str]:
    total: Counter[str] = Counter()
    for each in counts:
        whole = sum(each.values())
        total.update({name: round(1e9 * rows / whole) for name, rows in each.items()})
    return sorted(total, key=lambda name: (-total[name], name))


def _languages(dataset: DatasetFiles, source: str | None) -> dict[str, float]:
    counts: Counter[str] = Counter()
    for each in dataset.languages():
        if source in (None, each.source):
            counts.update(each.rows)
    return dict(counts)


def _lengths(dataset: DatasetFiles, source: str | None) -> dict[str, float]:
    counts: Counter[str] = Counter()
    for each in dataset.lengths():
        if source in (None, each.source):
            counts.update({str(begin): rows for begin, rows in zip(each.begins, each.rows, strict=True)})
    return dict(counts)


def _characters(contents: Contents, source: str | None) -> dict[str, float]:
    """How often each character stands in the rows that were read, each file in proportion to its rows."""
    weights: dict[str, float] = {}
    for file, script, characters in zip(contents.files, contents.scripts, contents.characters, strict=True):
        if source in (None, file.source) and script.rows:
            for character, count in characters.items():
                weights[character] = weights.get(character, 0) + count * file.rows / script.rows
    return weights


def _rows_read(contents: Contents, source: str | None) -> float:
    return float(sum(script.rows for script in contents.scripts if source in (None, script.source)))


def in_bins(before: Weights, now: Weights) -> tuple[dict[str, float], dict[str, float]]:
    """Characters in the order of their code points, cut into ranges that hold about the same of the text before."""
    characters = sorted({*before, *now})
    total = sum(before.values())
    bins: list[list[str]] = [[] for _ in range(CHARACTER_BINS)]
    reached = accumulate(before.get(character, 0.0) for character in characters)
    for character, upto in zip(characters, reached, strict=True):
        middle = upto - before.get(character, 0.0) / 2
        bins[min(CHARACTER_BINS - 1, int(CHARACTER_BINS * middle / total)) if total else 0].append(character)
    named = {_range(chosen): chosen for chosen in bins if chosen}
    old, new = (
        {name: math.fsum(weights.get(character, 0.0) for character in chosen) for name, chosen in named.items()}
        for weights in (before, now)
    )
    return old, new


def _range(characters: Sequence[str]) -> str:
    first, last = (_named(character) for character in (characters[0], characters[-1]))
    return first if first == last else f"{first} to {last}"


def _named(character: str) -> str:
    return character if character.isprintable() and not character.isspace() else f"U+{ord(character):04X}"
