"""One segment of remembered texts: files that are written once and searched in place."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from medllm_ops.curation.duplicates.bands import Keys, Packed, index, meetings
from medllm_ops.curation.duplicates.hashes import Bytes, Indices, as_bytes, as_hashes
from medllm_ops.curation.duplicates.known import Contents
from medllm_ops.curation.duplicates.signatures import NO_TEXT
from medllm_ops.files import whole_directory

_BATCH: Final = 4096


class Segment:
    """Texts sorted by content hash; see :mod:`medllm_ops.curation.duplicates.signature_folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._hashes: Bytes = np.load(folder / "hashes.npy", mmap_mode="r")
        self._codes: npt.NDArray[np.uint8] = np.load(folder / "codes.npy", mmap_mode="r")
        self._offsets: npt.NDArray[np.uint64] = np.load(folder / "offsets.npy", mmap_mode="r")
        self._texts = _mapped(folder / "texts.bin", np.uint8)
        self._bands = _mapped(folder / "bands.bin", np.uint64)

    @property
    def size(self) -> int:
        """The number of texts."""
        return len(self._hashes)

    def hashes(self) -> Bytes:
        """The content hashes, sorted."""
        return self._hashes

    def places(self, contents: pa.Array) -> Indices:
        """Where each content stands here; -1 if it does not."""
        wanted = as_bytes(contents)
        places = np.searchsorted(self._hashes, wanted)
        within = np.minimum(places, len(self._hashes) - 1)
        return np.where(self._hashes[within] == wanted, within, -1).astype(np.int64)

    def text(self, place: int) -> tuple[int, str]:
        """The code and the text at a place."""
        begin, end = int(self._offsets[place]), int(self._offsets[place + 1])
        return int(self._codes[place]), bytes(self._texts[begin:end]).decode("utf-8", "surrogatepass")

    def meetings(self, contents: pa.Array, keys: Sequence[Keys], neighbours: int) -> tuple[Indices, pa.Array]:
        """Texts here that share a band's key with new ones."""
        places = np.searchsorted(self._hashes, as_bytes(contents))
        found: list[npt.NDArray[np.int64]] = [np.empty((0, 2), np.int64)]
        for number, band_keys in enumerate(keys):
            found.append(np.stack(meetings(self._band(number, len(keys)), band_keys, places, neighbours), axis=1))
        pairs = np.unique(np.concatenate(found), axis=0)
        return pairs[:, 0], as_hashes(self._hashes[pairs[:, 1]])

    def keys(self, number: int, bands: int) -> Keys:
        """The keys of one of the bands, in the order of the texts; of texts without a word, 0."""
        band = self._band(number, bands)
        keys = np.zeros(self.size, np.uint32)
        keys[(band & np.uint64(0xFFFFFFFF)).astype(np.int64)] = (band >> np.uint64(32)).astype(np.uint32)
        return keys

    def _band(self, number: int, bands: int) -> Packed:
        band: Packed = self._bands.reshape(bands, -1)[number]
        return band

    def codes(self) -> npt.NDArray[np.uint8]:
        """The codes of the texts."""
        return self._codes


def _mapped(file: Path, dtype: type[np.generic]) -> npt.NDArray[Any]:
    return np.memmap(file, dtype, "r") if file.stat().st_size else np.empty(0, dtype)


def write_segment(folder: Path, contents: Contents, bands: int) -> None:
    """Write texts as a segment, whole or not at all."""
    with whole_directory(folder) as part:
        np.save(part / "hashes.npy", as_bytes(contents.hashes))
        np.save(part / "codes.npy", contents.codes)
        members = np.flatnonzero(contents.codes != NO_TEXT)
        with (part / "bands.bin").open("wb") as file:
            for number in range(bands):
                file.write(index(contents.keys(number)[members], members).tobytes())
        offsets = np.zeros(len(contents.codes) + 1, np.uint64)
        with (part / "texts.bin").open("wb") as file:
            bounds = [*range(0, len(contents.codes), _BATCH), len(contents.codes)]
            for begin, end in pairwise(bounds):
                texts = [text.encode("utf-8", "surrogatepass") for text in contents.texts(begin, end)]
                file.write(b"".join(texts))
                offsets[begin + 1 : end + 1] = [len(text) for text in texts]
        np.save(part / "offsets.npy", np.cumsum(offsets, dtype=np.uint64))


def merge_segments(folder: Path, segments: Sequence[Segment], alive: pa.Array, bands: int) -> None:
    """Write the texts of several segments as one; a text that is in several is taken once.

    :param alive: the content hashes that are taken, sorted.
    """
    hashes = np.concatenate([segment.hashes() for segment in segments])
    which = np.concatenate([np.full(segment.size, number) for number, segment in enumerate(segments)])
    place = np.concatenate([np.arange(segment.size) for segment in segments])
    order = np.argsort(hashes, kind="stable")
    first = np.ones(len(order), bool)
    first[1:] = hashes[order[1:]] != hashes[order[:-1]]
    order = order[first]
    order = order[np.isin(hashes[order], as_bytes(alive))]
    which, place = which[order], place[order]

    def texts(begin: int, end: int) -> list[str]:
        chosen = zip(which[begin:end].tolist(), place[begin:end].tolist(), strict=True)
        return [segments[one].text(at)[1] for one, at in chosen]

    codes = np.concatenate([segment.codes() for segment in segments])[order]
    keys_of = lambda number: np.concatenate([segment.keys(number, bands) for segment in segments])[order]  # noqa: E731
    write_segment(folder, Contents(as_hashes(hashes[order]), codes, keys_of, texts), bands)
