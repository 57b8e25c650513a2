"""Long texts in pieces that fit the model: cut at the best places, about equally long, nothing lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from medllm_ops.curation.write.bounds import Bound, Bounds, text_ends
from medllm_ops.curation.write.tokens import BATCH_CHARACTERS, Places, Tokenizer

# What a cut costs, beside the square of each piece's relative distance from the mean length: a paragraph's end is
# taken before a sentence's even if one of two pieces becomes twice as long as the other.
_COSTS: Final = {
    Bound.PARAGRAPH: 0.0,
    Bound.LINE: 0.15,
    Bound.SENTENCE: 0.3,
    Bound.CLAUSE: 1.0,
    Bound.WORD: 2.0,
    Bound.INSIDE: 4.0,
    Bound.INSIDE_WORD: 8.0,
    Bound.CHARACTER: 16.0,
    Bound.ANYWHERE: 32.0,
}
_ALWAYS: Final = (Bound.PARAGRAPH, Bound.LINE, Bound.SENTENCE)
_RESOLUTION: Final = 32
"""Of the places within a 32nd of the budget, only the best is looked at."""


def cut_texts(texts: Sequence[str], budgets: Sequence[int], tokenizer: Tokenizer) -> list[list[str] | None]:
    """Cut each text into pieces of at most so many tokens; a text that fits is one piece, unchanged.

    Joined, the pieces are the text but for white space where it was cut, and at the ends of what was cut. None: a
    text has something longer than the budget that is seen as one character.
    """
    pieces: list[list[str] | None] = [[text] for text in texts]
    asked = [
        number
        for number, (text, budget) in enumerate(zip(texts, budgets, strict=True))
        if tokenizer.at_most(text) > budget
    ]
    for batch in _batches(asked, texts):
        begins = tokenizer.begins([texts[number] for number in batch])
        for number, places in zip(batch, begins, strict=True):
            if len(places) > budgets[number]:
                pieces[number] = _pieces(texts[number], places, budgets[number], tokenizer)
    return pieces


def _batches(numbers: Sequence[int], texts: Sequence[str]) -> Iterator[list[int]]:
    batch: list[int] = []
    characters = 0
    for number in numbers:
        if batch and characters + len(texts[number]) > BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
        batch.append(number)
        characters += len(texts[number])
    if batch:
        yield batch


def _pieces(text: str, begins: Places, budget: int, tokenizer: Tokenizer) -> list[str] | None:
    limit = budget
    while limit > 0:
        spans = plan(text, begins, limit)
        if spans is None:
            return None
        pieces = [text[begin:end] for begin, end in spans]
        # A piece by itself may have more tokens than it had within the text: those of the places at its ends.
        longest = max(tokenizer.counts(pieces), default=0)
        if longest <= budget:
            return pieces
        limit = min(limit - 1, limit * budget // longest)
    return None


class _Places:
    """Places to cut a text at, in order, the text's begin and end among them.

    ``first`` and ``last``: the tokens of a piece that begins or ends there. ``cost``: of a cut there.
    """

    def __init__(self, text: str, begins: Places, places: dict[int, float]) -> None:
        self.at = np.array(sorted(places), np.int64)
        self.ends = np.array(text_ends(text, self.at.tolist()), np.int64)
        self.cost = np.array([places[place] for place in self.at.tolist()])
        self.last = np.searchsorted(begins, self.ends, side="left")
        # A token may begin at the space before a word, and the piece then counts it.
        first = np.searchsorted(begins, self.at, side="left")
        self.first = np.where(self.ends < self.at, np.maximum(first - 1, self.last), first)


def plan(text: str, begins: Places, budget: int) -> list[tuple[int, int]] | None:
    """The spans of a text's pieces, each with at most ``budget`` of its tokens; None if there is no way to cut it.

    :param begins: the character in which each token begins.
    """
    start = len(text) - len(text.lstrip())
    end = len(text.rstrip())
    if start >= end:
        return []
    bounds = Bounds(text)
    step = max(1, budget // _RESOLUTION)
    known: dict[int, float] = {start: 0.0, len(text): 0.0}
    for kind in Bound:
        chosen = _Places(text, begins, known)
        wide = np.flatnonzero(chosen.last[1:] - chosen.first[:-1] > budget)
        if kind not in _ALWAYS and not len(wide):
            break
        gaps = [(start, len(text))] if kind in _ALWAYS else _joined(chosen.at, wide)
        more = {place: _COSTS[kind] for gap in gaps for place in bounds.places(kind, *gap) if place > start}
        known = _thinned({**more, **known}, begins, step)
    chosen = _Places(text, begins, known)
    return _cheapest(chosen, int(chosen.last[-1] - chosen.first[0]), budget)


def _joined(at: npt.NDArray[np.int64], wide: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    return [(int(at[number]), int(at[number + 1])) for number in wide]


def _thinned(known: dict[int, float], begins: Places, step: int) -> dict[int, float]:
    """Of the places in each ``step`` tokens the best; of equal ones the first. The ends of the text stay."""
    if step == 1 or len(known) < 3:
        return known
    ordered = sorted(known)
    slots = (np.searchsorted(begins, ordered) // step).tolist()
    best: dict[int, int] = {}
    for place, slot in zip(ordered[1:-1], slots[1:-1], strict=True):
        if slot not in best or known[place] < known[best[slot]]:
            best[slot] = place
    return {place: known[place] for place in (ordered[0], *best.values(), ordered[-1])}


def _cheapest(places: _Places, tokens: int, budget: int) -> list[tuple[int, int]] | None:
    """The cheapest way through the places: dynamic programming over the place of the last cut."""
    mean = tokens / -(-tokens // budget)
    total = np.full(len(places.at), np.inf)
    total[0] = 0.0
    before = np.zeros(len(places.at), np.int64)
    low = 0
    for number in range(1, len(places.at)):
        last = places.last[number]
        while places.first[low] + budget < last:
            low += 1
        if low >= number:
            return None
        sizes = last - places.first[low:number]
        costs = total[low:number] + ((sizes - mean) / mean) ** 2
        best = int(np.argmin(costs))
        total[number] = costs[best] + places.cost[number]
        before[number] = low + best
    spans = []
    number = len(places.at) - 1
    while number:
        spans.append((int(places.at[before[number]]), int(places.ends[number])))
        number = int(before[number])
    return spans[::-1]
