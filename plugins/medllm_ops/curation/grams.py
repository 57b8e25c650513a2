"""Runs of tokens as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Codes: TypeAlias = npt.NDArray[np.uint64]

_FACTOR: Final = np.uint64(0x9E3779B185EBCA87)


def word_codes(words: Sequence[str]) -> Codes:
    """A number for each word; another process has other numbers."""
    return np.array(list(map(hash, words)), np.int64).view(np.uint64)


def character_codes(text: str) -> Codes:
    """A number for each character."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)


def run_hashes(codes: Codes, size: int) -> Codes:
    """A 64-bit number for each run of ``size`` tokens; two different ones are the same in one of 2**64 cases."""
    count = max(0, len(codes) - size + 1)
    mixed = codes[:count] * _FACTOR
    for offset in range(1, size):
        mixed ^= mixed >> np.uint64(31)
        mixed ^= codes[offset : offset + count]
        mixed *= _FACTOR
    return mixed
