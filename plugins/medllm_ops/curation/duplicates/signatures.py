"""From rows to what is compared: each part of a file becomes a table of rows with their text and band keys.

MinHash is Daft's: with hashing the shingles 10 microseconds for 1 KB of English and 21 for Chinese, against 24 and 27
of rensa (128 hashes, shingles of 3, one core).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from medllm_ops.curation.duplicates.hashes import Indices, as_hashes
from medllm_ops.curation.duplicates.normalise import Compared, Unit, compared
from medllm_ops.curation.duplicates.settings import DuplicateSettings
from medllm_ops.curation.parts import rows_of
from medllm_ops.curation.workers import Job, import_daft
from medllm_ops.files import code_hash

NO_TEXT: Final = 255
"""The code of a text without any word: it has duplicates that are equal, and no near ones."""

ROWS = pa.schema(
    [
        ("id", pa.large_string()),
        ("position", pa.uint64()),
        ("content", pa.binary(16)),
        ("length", pa.uint32()),
        ("retracted", pa.bool_()),
        ("version", pa.int64()),
        ("rank", pa.uint16()),
        ("code", pa.uint8()),
        ("text", pa.large_string()),
    ]
)
Bands: TypeAlias = npt.NDArray[np.uint32]
_HASH_FUNCTION: Final = "xxhash3_64"
_PROBE: Final = "the quick brown fox jumps over the lazy dog"
# Odd constants of xxHash64 and SplitMix64: any would do that mix bits well.
_MIX = np.array([0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0xBF58476D1CE4E5B9], np.uint64)


def sketch(job: Job) -> int:
    """Write the table ``<out>.arrow`` and the band keys ``<out>.npy`` of one part; return its number of rows.

    A part holds the lines that begin in its range.

    :raises UnreadableFileError: naming the file and the position of a line that is no record.
    """
    settings = DuplicateSettings.model_validate(job["settings"])
    ranks = {source: rank for rank, source in enumerate(settings.sources)}
    rows = [
        (
            row["id"],
            position,
            seen.content,
            seen.length,
            bool(row.get("retracted")),
            row["version"],
            ranks.get(row.get("source", ""), len(ranks)),
            _code(seen),
            seen.text,
        )
        for position, row in rows_of(job)
        for seen in (compared(row),)
    ]
    ids, positions, contents, lengths, retracted, versions, of_source, codes, texts = (
        zip(*rows, strict=True) if rows else [()] * len(ROWS)
    )
    code_column = np.array(codes, np.uint8)
    columns = [
        text_column(ids),
        np.array(positions, np.uint64),
        as_hashes(np.array(contents, "S16")),
        np.array(lengths, np.uint32),
        np.array(retracted, bool),
        np.array(versions, np.int64),
        np.array(of_source, np.uint16),
        code_column,
        text_column(texts),
    ]
    np.save(f"{job['out']}.npy", band_keys(texts, code_column, settings))
    with pa.ipc.new_file(f"{job['out']}.arrow", ROWS) as writer:
        writer.write_batch(pa.record_batch(columns, ROWS))
    return len(rows)


def _code(seen: Compared) -> int:
    return seen.shape * len(Unit) + seen.unit if seen.text.strip("\n") else NO_TEXT


def unit_of(code: int) -> Unit:
    """The unit of a text, by the code of its row."""
    return Unit(code % len(Unit))


def band_keys(texts: Sequence[str], codes: npt.NDArray[np.uint8], settings: DuplicateSettings) -> Bands:
    """The keys of each text's bands: an array of ``settings.bands`` rows and a column for each text.

    Texts of another shape or unit get other keys. Two different bands share a key in one of 2**32 cases; the pairs
    that come of it are verified like all others.
    """
    signatures = np.zeros((len(texts), settings.hashes), np.uint32)
    for unit in Unit:
        chosen = np.flatnonzero((codes % len(Unit) == unit) & (codes != NO_TEXT))
        tokens = _tokens([texts[index] for index in chosen.tolist()], unit)
        signatures[chosen] = minhash(tokens, settings.shingles(unit).candidate_size, settings)
    mixed = np.zeros((len(texts), settings.bands), np.uint64)
    banded = signatures.reshape(len(texts), settings.bands, settings.rows)
    for row in range(settings.rows):
        mixed = (mixed ^ banded[:, :, row]) * _MIX[0]
        mixed ^= mixed >> np.uint64(29)
    mixed = (mixed ^ (codes.astype(np.uint64)[:, None] + np.uint64(1)) * _MIX[1]) * _MIX[2]
    return np.ascontiguousarray((mixed >> np.uint64(32)).astype(np.uint32).T)


def _tokens(texts: Sequence[str], unit: Unit) -> pa.Array:
    """The texts as MinHash reads them: a space between two tokens."""
    if unit is Unit.WORDS:
        return text_column([text.replace("\n", " \n ") for text in texts])
    data, offsets = _joined(texts)
    follows = (data & 0xC0) == 0x80
    follows[offsets[:-1][offsets[:-1] < len(data)]] = True
    before = np.flatnonzero(~follows)
    is_byte = np.ones(len(data) + len(before), bool)
    is_byte[before + np.arange(len(before))] = False
    spaced = np.full(len(is_byte), ord(" "), np.uint8)
    spaced[is_byte] = data
    return _column(spaced, offsets + np.searchsorted(before, offsets))


def minhash(texts: pa.Array, size: int, settings: DuplicateSettings) -> npt.NDArray[np.uint32]:
    """The MinHash signatures of texts whose tokens are divided by single spaces."""
    if not len(texts):
        return np.empty((0, settings.hashes), np.uint32)
    series = import_daft().Series.from_arrow(texts)
    signed = series.minhash(settings.hashes, size, settings.seed, _HASH_FUNCTION).to_arrow()
    flat: npt.NDArray[np.uint32] = signed.flatten().to_numpy().astype(np.uint32, copy=False)
    return flat.reshape(len(texts), settings.hashes)


def text_column(texts: Sequence[str]) -> pa.Array:
    """As ``pyarrow.array``, which would import pandas, in every worker, to ask whether a list is of its kind."""
    return _column(*_joined(texts))


def _joined(texts: Sequence[str]) -> tuple[npt.NDArray[np.uint8], Indices]:
    encoded = [text.encode() for text in texts]
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(one) for one in encoded], out=offsets[1:])
    return np.frombuffer(b"".join(encoded), np.uint8), offsets


def _column(data: npt.NDArray[np.uint8], offsets: Indices) -> pa.Array:
    buffers = [pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.LargeStringArray.from_buffers(len(offsets) - 1, buffers[0], buffers[1])


def fingerprint(settings: DuplicateSettings) -> str:
    """What signatures must share to be comparable: settings, the way texts are normalised, and this Daft's MinHash."""
    shingles = {unit.name: settings.shingles(unit).model_dump(mode="json") for unit in Unit}
    probe = minhash(text_column([_PROBE]), 3, settings).tobytes().hex()
    texts = code_hash("curation/duplicates/normalise.py")
    made = {"shingles": shingles, "bands": settings.bands, "rows": settings.rows, "texts": texts, "probe": probe}
    return orjson.dumps(made, option=orjson.OPT_SORT_KEYS).decode()
