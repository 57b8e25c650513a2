"""Candidates: texts that share the key of a band."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from medllm_ops.curation.duplicates.hashes import Indices

Keys: TypeAlias = npt.NDArray[np.uint32]
Packed: TypeAlias = npt.NDArray[np.uint64]

_HALF: Final = np.uint64(32)
_LOW: Final = np.uint64(0xFFFFFFFF)


def pack(high: npt.NDArray[np.integer], low: npt.NDArray[np.integer]) -> Packed:
    """Two numbers below 2**32 in one, which sorts by the first and then the second."""
    return (high.astype(np.uint64) << _HALF) | low.astype(np.uint64)


def unpack(packed: Packed) -> tuple[Indices, Indices]:
    """What :func:`pack` packed."""
    return (packed >> _HALF).astype(np.int64), (packed & _LOW).astype(np.int64)


def index(keys: Keys, members: Indices) -> Packed:
    """One band as it is searched: the key and the number of each text, sorted.

    :param members: the numbers of the texts, in the order of their content hashes.
    """
    return np.sort(pack(keys, members))


def pairs(band: Callable[[int], Packed], bands: int, neighbours: int) -> Packed:
    """All pairs of texts that share a key, once each, packed with the lower number first, sorted.

    In a bucket of many texts, each is paired with the next ``neighbours`` by number: a bucket of n texts gives at
    most n times ``neighbours`` pairs, not n squared.

    :param band: gives the :func:`index` of a band.
    """
    found: Packed = np.empty(0, np.uint64)
    for number in range(bands):
        packed = band(number)
        keys = packed >> _HALF
        here = np.arange(len(packed))
        new = [found]
        for distance in range(1, neighbours + 1):
            here = here[here + distance < len(packed)]
            here = here[keys[here] == keys[here + distance]]
            if not len(here):
                break
            new.append(pack(packed[here] & _LOW, packed[here + distance] & _LOW))
        found = np.unique(np.concatenate(new))
    return found


def meetings(band: Packed, keys: Keys, places: Indices, neighbours: int) -> tuple[Indices, Indices]:
    """Which texts of an indexed band share a key with other texts: (number of the other, number in the band).

    Of a larger bucket, the ``neighbours`` before and after the other's place.

    :param keys: the keys of the others.
    :param places: where each of the others would stand among the indexed texts by content hash.
    """
    others: list[Indices] = []
    members: list[Indices] = []
    at = np.searchsorted(band, pack(keys, places))
    for step, first in ((1, 0), (-1, -1)):
        here = np.arange(len(keys))
        for distance in range(neighbours):
            where = at[here] + first + step * distance
            here, where = here[(where >= 0) & (where < len(band))], where[(where >= 0) & (where < len(band))]
            same = (band[where] >> _HALF) == keys[here]
            here, where = here[same], where[same]
            if not len(here):
                break
            others.append(here)
            members.append((band[where] & _LOW).astype(np.int64))
    nothing = np.empty(0, np.int64)
    return np.concatenate([nothing, *others]), np.concatenate([nothing, *members])
