"""The index of records beside a dataset's rows, so that nobody has to read them.

``ids/<side>/<source>.npy`` has two rows of 64-bit numbers, in the order of the first: xxh3-64 of each record's id, and
the sum of xxh3-64 over the record's lines. A record has several lines if it was cut into chunks, or drawn repeatedly.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import orjson
import xxhash

from medllm_ops.curation.write.runs import SIDES
from medllm_ops.errors import MedllmError

FOLDER = "ids"
_AT_ONCE = 100_000
_CHUNK = re.compile(r"(.+)#[0-9]+", re.DOTALL)
_REPEAT = re.compile(r"(.+)@[0-9]+", re.DOTALL)
_ID = b'{"id":"'

Hashes: TypeAlias = npt.NDArray[np.uint64]
AreRecords: TypeAlias = Callable[[Sequence[str]], Iterable[bool]]
"""Tells of ids whether they are those of records."""


def hash_of(record_id: str) -> int:
    """xxh3-64 of an id."""
    return xxhash.xxh3_64_intdigest(record_id.encode())


def hashes_of(ids: Iterable[str]) -> Hashes:
    """:func:`hash_of` of each."""
    return np.fromiter((xxhash.xxh3_64_intdigest(one.encode()) for one in ids), np.uint64)


def forms(line_id: str) -> list[str]:
    """The ids of the records whose line this may be, the likeliest last.

    Chunks are named ``<id>#<k>`` and repeated rows ``<id>@<n>``, but a publisher's id may end in the same way.
    """
    found = [line_id]
    for pattern in (_CHUNK, _REPEAT):
        if match := pattern.fullmatch(found[-1]):
            found.append(match[1])
    return found


def write_index(dataset: Path, are_records: AreRecords | None = None) -> None:
    """Write the index of a dataset that is being made.

    :param are_records: tells ids of records from those of chunks and repeated rows; without it, all that a line's id
        may stand for is indexed.
    """
    for side in SIDES:
        for path in sorted((dataset / side).glob("*.jsonl")):
            out = dataset / FOLDER / side / f"{path.stem}.npy"
            out.parent.mkdir(parents=True, exist_ok=True)
            np.save(out, np.stack(read_lines(path, are_records)), allow_pickle=False)


def line_ids(path: Path) -> Iterator[tuple[str, bytes]]:
    """The id of each line, and the line.

    :raises MedllmError: naming the line that is no row.
    """
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            end = line.find(b'"', len(_ID))
            if line.startswith(_ID) and end > 0 and line.find(b"\\", len(_ID), end) < 0:
                yield line[len(_ID) : end].decode(), line
                continue
            try:
                yield str(orjson.loads(line)["id"]), line
            except (ValueError, KeyError, TypeError) as error:
                raise MedllmError(f"{path}, line {number}, is no row: {error}") from error


def read_lines(path: Path, are_records: AreRecords | None) -> tuple[Hashes, Hashes]:
    """The index of a file of rows; where nobody knows the records, all that a line's id may stand for is in it."""
    parts: list[tuple[Hashes, Hashes]] = []
    names: list[str] = []
    texts: list[int] = []

    def flush() -> None:
        if are_records is None:
            pairs = [(form, text) for name, text in zip(names, texts, strict=True) for form in forms(name)]
        else:
            pairs = list(zip(_records(names, are_records), texts, strict=True))
        parts.append((hashes_of(name for name, _ in pairs), np.array([text for _, text in pairs], np.uint64)))
        names.clear()
        texts.clear()

    for name, line in line_ids(path):
        names.append(name)
        texts.append(xxhash.xxh3_64_intdigest(line))
        if len(names) == _AT_ONCE:
            flush()
    flush()
    ids, back = np.unique(np.concatenate([part[0] for part in parts]), return_inverse=True)
    sums = np.zeros(len(ids), np.uint64)
    np.add.at(sums, back, np.concatenate([part[1] for part in parts]))
    return ids, sums


def _records(names: Sequence[str], are_records: AreRecords) -> list[str]:
    """The id of the record of each line."""
    candidates = {name: found for name in names if len(found := forms(name)) > 1}
    asked = sorted({form for found in candidates.values() for form in found})
    known = {name for name, is_record in zip(asked, are_records(asked), strict=True) if is_record} if asked else set()
    return [next((form for form in candidates.get(name, [name]) if form in known), name) for name in names]
