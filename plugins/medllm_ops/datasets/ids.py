"""Which records a dataset holds, on which side: by the index that :mod:`medllm_ops.curation.write.index` wrote."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medllm_ops.curation.write.index import FOLDER, Hashes, read_lines
from medllm_ops.datasets.store import SIDES, Dataset
from medllm_ops.errors import MedllmError


@dataclass(frozen=True, slots=True)
class Index:
    """The index of one file of rows."""

    side: str
    source: str
    ids: Hashes
    texts: Hashes

    def has(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        """Which of the ids with these hashes it holds."""
        return held(self.ids, hashes)


def held(ascending: Hashes, hashes: Hashes) -> npt.NDArray[np.bool_]:
    """Which of the hashes are among the ascending ones."""
    if not len(ascending):
        return np.zeros(len(hashes), bool)
    places = np.searchsorted(ascending, hashes)
    places[places == len(ascending)] = 0
    found: npt.NDArray[np.bool_] = ascending[places] == hashes
    return found


def read_index(dataset: Dataset) -> Iterator[Index]:
    """The index of each file of rows; of a dataset that was made without one, it is made now, in memory.

    :raises MedllmError: if the index is damaged.
    """
    for side, source, path in dataset.files():
        file = dataset.directory / FOLDER / side / f"{source}.npy"
        if file.is_file():
            try:
                table = np.load(file, mmap_mode="r", allow_pickle=False)
            except ValueError as error:
                raise MedllmError(f"{file} is damaged: {error}") from error
            if table.dtype != np.uint64 or table.ndim != 2 or len(table) != 2:
                raise MedllmError(f"{file} is damaged: it is no index")
            yield Index(side, source, table[0], table[1])
        else:
            yield Index(side, source, *read_lines(path, None))


def records_of(dataset: Dataset, source: str | None = None) -> dict[str, int]:
    """How many records stand on each side."""
    counts = dict.fromkeys(SIDES, 0)
    for index in read_index(dataset):
        if source in (None, index.source):
            counts[index.side] += len(index.ids)
    return counts
