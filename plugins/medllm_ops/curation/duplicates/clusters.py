"""Clusters: what verified pairs join, and the one of each that is kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medllm_ops.curation.duplicates.hashes import Indices


class Union:
    """Disjoint sets of numbers; a set is known by its lowest member. Numbers never joined take no memory."""

    def __init__(self) -> None:
        self._parents: dict[int, int] = {}

    def find(self, member: int) -> int:
        """The lowest member of the set of this one."""
        parents = self._parents
        root = member
        while (parent := parents.get(root, root)) != root:
            root = parent
        while member != root:
            parents[member], member = root, parents[member]
        return root

    def join(self, one: int, other: int) -> None:
        """Make one set of two."""
        low, high = sorted((self.find(one), self.find(other)))
        self._parents[high] = low

    def labels(self, members: int) -> Indices:
        """The lowest member of the set of each number below ``members``."""
        labels = np.arange(members)
        for member in self._parents:
            labels[member] = self.find(member)
        return labels


@dataclass(frozen=True, slots=True)
class Members:
    """The members of clusters, a line each, in the order of their ids."""

    cluster: Indices
    retracted: npt.NDArray[np.bool_]
    length: Indices
    rank: Indices
    was_kept: npt.NDArray[np.bool_]
    content: Indices
    """The same number for the same content."""


def elect(members: Members) -> tuple[npt.NDArray[np.bool_], Indices]:
    """Which members are kept, and for each member the one that stands for it (for a kept one: itself).

    A member that was kept before and is not retracted stays kept. Where a cluster has none, one is chosen: not
    retracted, then the longest, then of the most authoritative source, then of the lowest id.
    """
    count = len(members.cluster)
    stays = members.was_kept & ~members.retracted
    order = np.lexsort(
        (np.arange(count), members.rank, -members.length, ~members.was_kept, members.retracted, members.cluster)
    )
    first = np.ones(count, bool)
    first[1:] = members.cluster[order[1:]] != members.cluster[order[:-1]]
    best_of = np.empty(count, np.int64)
    best_of[order] = order[np.maximum.accumulate(np.where(first, np.arange(count), 0))]
    kept = stays.copy()
    kept[order[first]] = True
    stands = np.where(kept, np.arange(count), best_of)
    return kept, _equal_first(members, kept, stands)


def _equal_first(members: Members, kept: npt.NDArray[np.bool_], stands: Indices) -> Indices:
    """For a member whose very content is kept in its cluster, that one stands."""
    numbers, counts = np.unique(members.cluster[kept], return_counts=True)
    bridged = np.isin(members.cluster, numbers[counts > 1])
    keepers = {(members.cluster[one], members.content[one]): one for one in np.flatnonzero(kept & bridged)[::-1]}
    for one in np.flatnonzero(~kept & bridged):
        stands[one] = keepers.get((members.cluster[one], members.content[one]), stands[one])
    return stands
