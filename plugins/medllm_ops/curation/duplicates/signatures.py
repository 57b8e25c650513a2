"""From rows to what is compared: each part of a file becomes a table of rows with their text and band keys.

MinHash is Daft's: with hashing the shingles 10 microseconds for 1 KB of English and 21 for Chinese, against 24 and 27
of rensa (128 hashes, shingles of 3, one core).
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from medllm_ops.curation.duplicates.normalise import Compared, Unit, compared
from medllm_ops.curation.duplicates.settings import DuplicateSettings
from medllm_ops.curation.parts import rows_of
from medllm_ops.curation.workers import Job, import_daft

NO_TEXT: Final = 255
"""The code of a text without any word: it has duplicates that are equal, and no near ones."""

ROWS = pa.schema(
    [
        ("id", pa.string()),
        ("position", pa.uint64()),
        ("content", pa.binary(16)),
        ("length", pa.uint32()),
        ("retracted", pa.bool_()),
        ("version", pa.int64()),
        ("rank", pa.uint16()),
        ("code", pa.uint8()),
        ("text", pa.string()),
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
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in ROWS.names]
    batch = pa.record_batch([pa.array(column, kind) for column, kind in zip(columns, ROWS.types, strict=True)], ROWS)
    np.save(f"{job['out']}.npy", band_keys(columns[-1], np.array(columns[-2], np.uint8), settings))
    with pa.ipc.new_file(f"{job['out']}.arrow", ROWS) as writer:
        writer.write_batch(batch)
    return len(rows)


def _code(seen: Compared) -> int:
    return seen.shape * len(Unit) + seen.unit if seen.text.strip("\n") else NO_TEXT


def unit_of(code: int) -> Unit:
    """The unit of a text, by the code of its row."""
    return Unit(code % len(Unit))


def band_keys(texts: list[str], codes: npt.NDArray[np.uint8], settings: DuplicateSettings) -> Bands:
    """The keys of each text's bands: an array of ``settings.bands`` rows and a column for each text.

    Texts of another shape or unit get other keys. Two different bands share a key in one of 2**32 cases; the pairs
    that come of it are verified like all others.
    """
    signatures = np.zeros((len(texts), settings.hashes), np.uint32)
    for unit in Unit:
        chosen = np.flatnonzero((codes % len(Unit) == unit) & (codes != NO_TEXT))
        tokens = [_tokens(texts[index], unit) for index in chosen]
        signatures[chosen] = minhash(tokens, settings.shingles(unit).candidate_size, settings)
    mixed = np.zeros((len(texts), settings.bands), np.uint64)
    banded = signatures.reshape(len(texts), settings.bands, settings.rows)
    for row in range(settings.rows):
        mixed = (mixed ^ banded[:, :, row]) * _MIX[0]
        mixed ^= mixed >> np.uint64(29)
    mixed = (mixed ^ (codes.astype(np.uint64)[:, None] + np.uint64(1)) * _MIX[1]) * _MIX[2]
    return np.ascontiguousarray((mixed >> np.uint64(32)).astype(np.uint32).T)


def _tokens(text: str, unit: Unit) -> str:
    return " ".join(text) if unit is Unit.CHARACTERS else text.replace("\n", " \n ")


def minhash(texts: list[str], size: int, settings: DuplicateSettings) -> npt.NDArray[np.uint32]:
    """The MinHash signatures of texts whose tokens are divided by single spaces."""
    if not texts:
        return np.empty((0, settings.hashes), np.uint32)
    series = import_daft().Series.from_arrow(pa.array(texts, pa.large_string()))
    signed = series.minhash(settings.hashes, size, settings.seed, _HASH_FUNCTION).to_arrow()
    flat: npt.NDArray[np.uint32] = signed.flatten().to_numpy().astype(np.uint32, copy=False)
    return flat.reshape(len(texts), settings.hashes)


def fingerprint(settings: DuplicateSettings) -> str:
    """What signatures must share to be comparable: the settings they come of, and what this Daft makes of them."""
    shingles = {unit.name: settings.shingles(unit).model_dump(mode="json") for unit in Unit}
    probe = minhash([_PROBE], 3, settings).tobytes().hex()
    made = {"shingles": shingles, "bands": settings.bands, "rows": settings.rows, "probe": probe}
    return orjson.dumps(made, option=orjson.OPT_SORT_KEYS).decode()
