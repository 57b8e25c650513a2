"""The verdict on candidates: the true Jaccard similarity of their shingles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from medllm_ops.curation.duplicates.bands import Packed, unpack
from medllm_ops.curation.duplicates.clusters import Union
from medllm_ops.curation.duplicates.normalise import Unit
from medllm_ops.curation.duplicates.settings import DuplicateSettings
from medllm_ops.curation.duplicates.signatures import unit_of
from medllm_ops.curation.grams import Codes, character_codes, run_hashes, word_codes
from medllm_ops.curation.workers import Job, Run

PAIRS_A_JOB: Final = 50_000
SKIPPED: Final = -1.0
"""Instead of the similarity of a pair that other pairs had joined before."""

# A set of 1 KB of text takes 1 to 3 KB; pairs that share a text are near each other, so few sets are enough.
_SETS: Final = 1024

Similarities: TypeAlias = npt.NDArray[np.float64]
ShingleSets: TypeAlias = list[Codes]


def shingle_sets(text: str, unit: Unit, size: int) -> ShingleSets:
    """The set of shingles of each line of a compared text; a line shorter than a shingle is one by itself.

    A set is a sorted array of the shingles' 64-bit hashes: with Python's sets, all takes twice the time. Two of 1,000
    different shingles share one in one of 10**13 cases.
    """
    return [_shingles(line, unit, size) for line in text.split("\n")]


def _shingles(line: str, unit: Unit, size: int) -> Codes:
    codes = character_codes(line) if unit is Unit.CHARACTERS else word_codes(line.split())
    if len(codes) == 0:
        return codes
    hashes = run_hashes(codes, min(size, len(codes)))
    if len(codes) < size:
        # It equals its like only, and no part of a longer line.
        hashes ^= np.uint64(len(codes))
    hashes.sort()
    new = np.ones(len(hashes), bool)
    np.not_equal(hashes[1:], hashes[:-1], out=new[1:])
    return hashes[new]


def jaccard(one: ShingleSets, other: ShingleSets) -> float:
    """The share of common shingles in all of them; of dialogues, the lower one of what is asked and what is answered.

    Else dialogues with one long instruction in common, or one polite answer, would be duplicates.
    """
    lowest = 1.0
    for left, right in zip(one, other, strict=True):
        every = np.concatenate((left, right))
        every.sort()
        common = int(np.count_nonzero(every[1:] == every[:-1]))
        both = len(every) - common
        lowest = min(lowest, common / both if both else 1.0)
    return lowest


class TextTables:
    """The texts of tables that :func:`~medllm_ops.curation.duplicates.signatures.sketch` wrote; they stay on disk."""

    def __init__(self, files: Sequence[str]) -> None:
        self._tables = [pa.ipc.open_file(pa.memory_map(file)) for file in files]
        self._columns = [
            table.get_batch(0).column("text") if table.num_record_batches else None for table in self._tables
        ]

    def get(self, file: int, row: int) -> str:
        """The text of a row of a table."""
        column = self._columns[file]
        return str(column[row].as_py())  # type: ignore[index]


def similarities(
    pairs: Packed,
    codes: npt.NDArray[np.uint8],
    locate: Callable[[npt.NDArray[np.int64]], tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]],
    files: Sequence[Path],
    settings: DuplicateSettings,
    run: Run,
    work: Path,
    *,
    join: bool,
) -> Similarities:
    """The similarity of each pair of texts.

    :param pairs: packed numbers of texts; by what is common to their order, neighbours share texts.
    :param codes: by the number of a text.
    :param locate: gives the file and row of texts by their numbers.
    :param join: pairs that are joined by accepted ones before them are :data:`SKIPPED`.
    """
    jobs: list[Job] = []
    for begin in range(0, len(pairs), PAIRS_A_JOB):
        left, right = unpack(pairs[begin : begin + PAIRS_A_JOB])
        nodes, inverse = np.unique(np.concatenate([left, right]), return_inverse=True)
        table, row = locate(nodes)
        name = str(work.absolute() / f"pairs-{len(jobs):06}.npz")
        np.savez(name, left=inverse[: len(left)], right=inverse[len(left) :], table=table, row=row, code=codes[nodes])
        jobs.append(
            {
                "pairs": name,
                "files": [str(path) for path in files],
                "settings": settings.model_dump(mode="json"),
                "join": join,
            }
        )
    run(verify, jobs)
    results = [np.load(f"{job['pairs']}.npy") for job in jobs]
    for job in jobs:
        Path(job["pairs"]).unlink()
        Path(f"{job['pairs']}.npy").unlink()
    return np.concatenate([np.empty(0, np.float64), *results])


def verify(job: Job) -> int:
    """Write the similarities of one job's pairs to ``<pairs>.npy``; return how many there are."""
    settings = DuplicateSettings.model_validate(job["settings"])
    data: dict[str, Any] = dict(np.load(job["pairs"]))
    texts = TextTables(job["files"])
    table, row, code = (data[name].tolist() for name in ("table", "row", "code"))

    @lru_cache(maxsize=_SETS)
    def sets(node: int) -> ShingleSets:
        unit = unit_of(code[node])
        return shingle_sets(texts.get(table[node], row[node]), unit, settings.shingles(unit).size)

    union = Union()
    found = np.full(len(data["left"]), SKIPPED, np.float64)
    for number, (left, right) in enumerate(zip(data["left"].tolist(), data["right"].tolist(), strict=True)):
        if code[left] != code[right]:
            found[number] = 0.0
        elif not job["join"]:
            found[number] = jaccard(sets(left), sets(right))
        elif union.find(left) != union.find(right):
            similarity = jaccard(sets(left), sets(right))
            found[number] = similarity
            if similarity >= settings.shingles(unit_of(code[left])).threshold:
                union.join(left, right)
    np.save(f"{job['pairs']}.npy", found)
    return len(found)


def accepted(
    pairs: Packed, found: Similarities, codes: npt.NDArray[np.uint8], settings: DuplicateSettings
) -> npt.NDArray[np.bool_]:
    """Which pairs are near duplicates, by the threshold of their unit."""
    left, _ = unpack(pairs)
    limits = np.array([settings.shingles(unit).threshold for unit in Unit])
    mask: npt.NDArray[np.bool_] = found >= limits[codes[left] % len(Unit)]
    return mask
