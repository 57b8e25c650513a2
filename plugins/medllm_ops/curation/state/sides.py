"""Which side clusters are on: decided at first sight, and kept.

ms-swift's own splitter put 99 % of a validation file into training (modelscope/ms-swift#902); it is never used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import xxhash

from medllm_ops.curation.duplicates.hashes import Bytes, Indices
from medllm_ops.curation.state.tables import BATCH, Side

Codes: TypeAlias = npt.NDArray[np.uint8]
Counts: TypeAlias = Mapping[tuple[str, int], int]

_RANGE: Final = 1 << 64


@dataclass(frozen=True, slots=True)
class Members:
    """Rows of clusters, all that live of each."""

    cluster: Indices
    """By its number among the names."""
    side: Codes
    """As it was written before; ``UNKNOWN`` for a row that is new."""
    source: Indices
    """By its number among the sources."""
    kept: npt.NDArray[np.bool_]


def cluster_sides(
    members: Members,
    names: Bytes,
    before: Codes,
    sources: Sequence[str],
    standing: Counts,
    val_share: Callable[[str], float],
) -> Codes:
    """The side of each cluster.

    * One that has members on the train side, or was on it, is on it: nothing that was trained on comes to validate.
      Its members on the val side are retired by that.
    * Else, one that has members on the val side, or was on it, stays there.
    * Else it is new, and a hash of its name below ``val_share`` of the set of its kept row puts it on the val side.
    * A set that has nothing on one side then, and rows in at least two clusters, one of them new, gets a new one there:
      for validation the one of the lowest hash, for training the one of the highest.

    :param names: the names of the clusters.
    :param before: by cluster, the side that was written of it, or of those that are now part of it.
    :param standing: how many rows that are kept, and are no members here, are on a side, by (source, side).
    """
    trained, validated = before == Side.TRAIN, before == Side.VAL
    trained[members.cluster[members.side == Side.TRAIN]] = True
    validated[members.cluster[members.side == Side.VAL]] = True
    found = np.where(trained, Side.TRAIN, np.where(validated, Side.VAL, Side.UNKNOWN)).astype(np.uint8)
    new = np.flatnonzero(found == Side.UNKNOWN)
    if not len(new):
        return found
    of_set = np.full(len(names), -1)
    # From the end, so that of several the first one counts.
    kept = np.flatnonzero(members.kept)[::-1]
    of_set[members.cluster[kept]] = members.source[kept]
    hashes = np.fromiter(map(_hash, _each(names, new)), np.uint64, len(new))
    limits = np.array([int(val_share(source) * _RANGE) for source in sources], np.uint64)
    found[new] = np.where(hashes < limits[of_set[new]], Side.VAL, Side.TRAIN)
    side = np.where(members.side == Side.UNKNOWN, found[members.cluster], members.side)
    stands = members.kept & (side == found[members.cluster])
    places = members.source[stands] * len(Side) + side[stands]
    counts = np.bincount(places, minlength=len(sources) * len(Side)).reshape(len(sources), len(Side))
    for number in np.unique(of_set[new]).tolist():
        train, val = (
            int(counts[number, one]) + standing.get((sources[number], one), 0) for one in (Side.TRAIN, Side.VAL)
        )
        if min(train, val) > 0 or max(train, val) < 2:
            continue
        ours = of_set[new] == number
        if train:
            found[new[ours][np.argmin(hashes[ours])]] = Side.VAL
        else:
            found[new[ours][np.argmax(hashes[ours])]] = Side.TRAIN
    return found


def _each(names: Bytes, chosen: Indices) -> Iterator[bytes]:
    """Some names; all at once, they would take a hundred bytes each."""
    for first in range(0, len(chosen), BATCH):
        # numpy's strings end at the last byte that is not zero.
        yield from (bytes(name).ljust(16, b"\0") for name in names[chosen[first : first + BATCH]].tolist())


def _hash(name: bytes) -> int:
    return xxhash.xxh3_64_intdigest(b"split:" + name)
