"""Content hashes as columns and as arrays."""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

CONTENT: Final = pa.binary(16)

Indices: TypeAlias = npt.NDArray[np.int64]
Bytes: TypeAlias = npt.NDArray[np.bytes_]


def as_bytes(hashes: pa.Array | pa.ChunkedArray) -> Bytes:
    """Content hashes as numpy strings, which sort as the hashes do."""
    array = whole(hashes)
    buffer = array.buffers()[1]
    if buffer is None or not len(array):
        return np.empty(0, "S16")
    return np.frombuffer(buffer, "S16", count=len(array), offset=16 * array.offset)


def as_hashes(data: Bytes) -> pa.Array:
    """What :func:`as_bytes` read."""
    return pa.FixedSizeBinaryArray.from_buffers(CONTENT, len(data), [None, pa.py_buffer(np.ascontiguousarray(data))])


def numbered(hashes: Bytes) -> tuple[Indices, Indices, Bytes]:
    """For each hash its number among all of them, sorted; where each stands first; and they themselves."""
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    new = np.ones(len(order), bool)
    new[1:] = ordered[1:] != ordered[:-1]
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.cumsum(new) - 1
    return numbers, order[new], ordered[new]


def places(values: pa.Array | pa.ChunkedArray, among: pa.Array | pa.ChunkedArray) -> Indices:
    """Where each value stands first; -1 if it does not."""
    found: Indices = pc.fill_null(pc.index_in(whole(values), whole(among)), -1).to_numpy(zero_copy_only=False)
    return found.astype(np.int64)


def whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column as one array."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays([pa.array([], column.type), *column.chunks])
