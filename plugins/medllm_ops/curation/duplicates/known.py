"""What is remembered of rows seen before, so that new ones cost in proportion to the new ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from medllm_ops.curation.duplicates.bands import Keys
from medllm_ops.curation.duplicates.hashes import CONTENT, Indices

KNOWN_ROWS: Final = pa.schema(
    [
        ("id", pa.string()),
        ("content", CONTENT),
        ("cluster", CONTENT),
        ("kept", pa.string()),
        ("similarity", pa.float64()),
        ("length", pa.uint32()),
        ("retracted", pa.bool_()),
        ("rank", pa.uint16()),
    ]
)
"""A row that is remembered: its content hash and cluster, the id of the row that stands for it (its own if it is kept)
and how similar that is, and what the choice looks at."""


@dataclass(frozen=True, slots=True)
class Contents:
    """Texts to remember, sorted by content hash, once each."""

    hashes: pa.Array
    codes: npt.NDArray[np.uint8]
    keys: Callable[[int], Keys]
    """The keys of a band, by its number."""
    texts: Callable[[int, int], list[str]]
    """The texts from a place to a place."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a step makes of what is remembered; applied as a whole or not at all."""

    gone: pa.Array
    """Ids that are forgotten."""
    rows: pa.Table
    """:data:`KNOWN_ROWS` that are new or take the place of an older state."""
    contents: Contents
    """The texts of ``rows`` that were not remembered."""


class Known(Protocol):
    """The tables that an increment reads and writes.

    :class:`~medllm_ops.curation.duplicates.signature_folder.SignatureFolder` keeps them in a folder.
    """

    @property
    def empty(self) -> bool:
        """Whether nothing is remembered yet."""

    def by_id(self, ids: pa.Array) -> pa.Table:
        """The :data:`KNOWN_ROWS` with these ids."""

    def by_content(self, contents: pa.Array) -> pa.Table:
        """The :data:`KNOWN_ROWS` with these content hashes."""

    def by_cluster(self, clusters: pa.Array) -> pa.Table:
        """The :data:`KNOWN_ROWS` of these clusters."""

    def meetings(self, contents: pa.Array, keys: Sequence[Keys], neighbours: int) -> tuple[Indices, pa.Array]:
        """Remembered texts that share a band's key with new ones: (place of the new one, content hash).

        Texts whose rows are all gone may be among them. See :func:`medllm_ops.curation.duplicates.bands.meetings`.

        :param contents: the hashes of the new texts, sorted.
        :param keys: by band, the keys of the new texts.
        """

    def texts(self, contents: pa.Array) -> tuple[npt.NDArray[np.uint8], list[str]]:
        """The codes and texts of remembered contents."""

    def apply(self, change: Change) -> None:
        """Write the change."""


class Nothing:
    """Nothing is remembered, and nothing will be: for rows that are looked at once."""

    empty = True

    def by_id(self, ids: pa.Array) -> pa.Table:
        """No row."""
        return KNOWN_ROWS.empty_table()

    by_content = by_cluster = by_id

    def meetings(self, contents: pa.Array, keys: Sequence[Keys], neighbours: int) -> tuple[Indices, pa.Array]:
        """No text."""
        return np.empty(0, np.int64), pa.array([], CONTENT)

    def texts(self, contents: pa.Array) -> tuple[npt.NDArray[np.uint8], list[str]]:
        """No text."""
        return np.empty(0, np.uint8), []

    def apply(self, change: Change) -> None:
        """Forget it."""
