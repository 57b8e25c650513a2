"""A sample of a publisher's records that is the same whatever their order: those whose ids have the lowest hashes."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

import xxhash

from medllm_ops.records import Deletion, Reject
from medllm_ops.sources.base import Parsed

NOT_SAMPLED = "not in the sample"
"""The reason under which a ledger counts what a sample leaves out."""
SEED = 42

_Item = TypeVar("_Item")


class Draw(Generic[_Item]):
    """Keeps the items of at most ``rows`` ids, in memory for so many: those of the lowest xxh3-64 of ``seed:id``.

    ``left_out`` counts the others. A smaller draw of the same seed is part of a larger one.

    :param rows: at least 1.
    """

    def __init__(self, rows: int, seed: int = SEED) -> None:
        self._rows = rows
        self._seed = seed
        self._heap: list[tuple[int, int, _Item]] = []  # the highest hash first; of equal ones, the later
        self._offered = 0
        self.left_out = 0

    def offer(self, record_id: str, item: _Item) -> None:
        """Keep the item if its id is among the lowest so far."""
        text = f"{self._seed}:{record_id}".encode("utf-8", "surrogatepass")
        entry = (-xxhash.xxh3_64_intdigest(text), -self._offered, item)
        self._offered += 1
        if len(self._heap) < self._rows:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)
            self.left_out += 1

    def kept(self) -> list[_Item]:
        """The items of the sample, in the order in which they were offered."""
        return [item for _, _, item in sorted(self._heap, key=lambda entry: -entry[1])]


class Sampled:
    """The items of a raw file, its records sampled; ``left_out`` counts the others, once all items were read.

    Records, deletions and withdrawals come in file order, after the last item of the file was seen; rejects that
    change nothing come as soon as they are read, so that memory holds ``rows`` records and little else.

    :param rows: at most so many records; 0: all, each as soon as it is read.
    """

    def __init__(self, items: Iterable[Parsed], rows: int, seed: int = SEED) -> None:
        self._items = items
        self._rows = rows
        self._seed = seed
        self.left_out = 0

    def __iter__(self) -> Iterator[Parsed]:
        if not self._rows:
            yield from self._items
            return
        draw: Draw[tuple[int, Parsed]] = Draw(self._rows, self._seed)
        changes: list[tuple[int, Parsed]] = []
        for number, item in enumerate(self._items):
            if isinstance(item, Deletion):
                changes.append((number, item))
            elif not isinstance(item, Reject):
                draw.offer(item.id, (number, item))
            elif item.withdraws is None:
                yield item
            else:
                changes.append((number, item))
        self.left_out = draw.left_out
        for _, item in heapq.merge(draw.kept(), changes, key=lambda each: each[0]):
            yield item
