"""From the new contents of a step to clusters: which contents belong together, and to which cluster from before."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from medllm_ops.curation.duplicates.bands import Packed, index, pack, pairs, unpack
from medllm_ops.curation.duplicates.batch import Batch, part_files
from medllm_ops.curation.duplicates.clusters import Union
from medllm_ops.curation.duplicates.hashes import CONTENT, Indices, as_bytes, as_hashes, places, whole
from medllm_ops.curation.duplicates.known import KNOWN_ROWS, Known
from medllm_ops.curation.duplicates.settings import DuplicateSettings
from medllm_ops.curation.duplicates.signatures import NO_TEXT, ROWS, text_column
from medllm_ops.curation.duplicates.verify import Similarities, accepted, similarities
from medllm_ops.curation.workers import Run


@dataclass(frozen=True, slots=True)
class Texts:
    """Where the texts of a step are: contents of the batch, and after them remembered ones, by one number."""

    batch: Batch
    known: pa.Array
    codes: npt.NDArray[np.uint8]
    file: Path
    """The table with the texts of remembered contents."""

    def locate(self, numbers: Indices) -> tuple[Indices, Indices]:
        """The table and the row in it of each text."""
        ours = len(self.batch.hashes)
        table, row = self.batch.locate(np.minimum(numbers, ours - 1)) if ours else (numbers * 0, numbers * 0)
        remembered = numbers >= ours
        return np.where(remembered, len(self.batch.parts), table), np.where(remembered, numbers - ours, row)

    def similarities(
        self, chosen: Packed, settings: DuplicateSettings, run: Run, work: Path, *, join: bool
    ) -> Similarities:
        """The similarity of pairs of texts; see :func:`medllm_ops.curation.duplicates.verify.similarities`."""
        files = [*part_files(self.batch.parts), self.file]
        return similarities(chosen, self.codes, self.locate, files, settings, run, work, join=join)


@dataclass(frozen=True, slots=True)
class Links:
    """The cluster of each content of the batch, as a number of ``names``, and what was found on the way."""

    cluster: Indices
    names: pa.Array
    """Content hashes, sorted: the name of each cluster, and those of clusters that were joined to another."""
    joined: dict[bytes, bytes]
    """Clusters from before that are now part of another one, by name."""
    fresh: Indices
    """The contents of the batch that were not remembered."""
    candidates: int
    near: Packed
    """The accepted pairs, sorted: contents of the batch, and after them remembered ones."""
    similarity: Similarities


def link(batch: Batch, known: Known, vanished: pa.Array, settings: DuplicateSettings, run: Run, work: Path) -> Links:
    """Find the clusters of the batch's contents.

    A content that is remembered belongs to its cluster. A content whose hash is the name of a cluster belongs to it.
    All others are joined by verified pairs, with each other and with remembered ones. A cluster that is new is named
    by its lowest content hash; one that joins several from before by the lowest of their names.

    :param vanished: ids whose remembered rows do not count any more.
    """
    same = _alive(known.by_content(batch.hashes), vanished) if not known.empty else KNOWN_ROWS.empty_table()
    equal = places(same["content"], batch.hashes)
    fresh = np.setdiff1d(np.arange(len(batch.hashes)), equal)
    searched = fresh[batch.codes[fresh] != NO_TEXT]
    near = pairs(lambda band: index(batch.keys(band, searched), searched), settings.bands, settings.neighbours)
    met, texts, remembered = _meet(batch, known, vanished, searched, settings, work)
    candidates = _by_component(np.concatenate([near, met]))
    found = texts.similarities(candidates, settings, run, work, join=True)
    taken = accepted(candidates, found, texts.codes, settings)
    left, right = unpack(candidates[taken])

    named = known.by_cluster(batch.hashes.take(pa.array(fresh))) if not known.empty else KNOWN_ROWS.empty_table()
    named = _alive(named, vanished)
    tables = [same["cluster"], remembered["cluster"], named["cluster"]]
    clusters = as_hashes(np.unique(np.concatenate([as_bytes(one) for one in tables])))
    # Clusters from before come first, by name, so that the lowest member of a set is the name that it gets.
    before = len(clusters)
    union = Union()
    of_remembered = places(remembered["cluster"], clusters)
    by_content = places(texts.known, whole(remembered["content"]))
    ours = len(batch.hashes)
    for one, other in zip(left.tolist(), right.tolist(), strict=True):
        cluster = of_remembered[by_content[other - ours]] if other >= ours else other + before
        union.join(one + before, int(cluster))
    for one, cluster in zip(equal.tolist(), places(same["cluster"], clusters).tolist(), strict=True):
        union.join(one + before, cluster)
    names = pc.unique(whole(named["cluster"]))
    for one, cluster in zip(places(names, batch.hashes).tolist(), places(names, clusters).tolist(), strict=True):
        union.join(one + before, cluster)
    labels = union.labels(before + ours)
    joined = {clusters[one].as_py(): clusters[int(labels[one])].as_py() for one in range(before) if labels[one] != one}
    everything = pa.concat_arrays([clusters, batch.hashes])
    used, cluster_numbers = np.unique(labels[before:], return_inverse=True)
    order = np.argsort(candidates[taken])
    return Links(
        cluster=cluster_numbers,
        names=everything.take(pa.array(used)),
        joined=joined,
        fresh=fresh,
        candidates=len(candidates),
        near=candidates[taken][order],
        similarity=found[taken][order],
    )


def _alive(rows: pa.Table, vanished: pa.Array) -> pa.Table:
    return rows.filter(pc.invert(pc.is_in(rows["id"], vanished)))


def _meet(
    batch: Batch, known: Known, vanished: pa.Array, searched: Indices, settings: DuplicateSettings, work: Path
) -> tuple[Packed, Texts, pa.Table]:
    """Candidates between contents of the batch and remembered ones, whose texts are laid beside those of the batch."""
    file = work / "known.arrow"
    new, met = np.empty(0, np.int64), pa.array([], CONTENT)
    if not known.empty and len(searched):
        keys = [batch.keys(band, searched) for band in range(settings.bands)]
        new, met = known.meetings(batch.hashes.take(pa.array(searched)), keys, settings.neighbours)
    rows = _alive(known.by_content(met), vanished) if len(met) else KNOWN_ROWS.empty_table()
    others = rows.filter(pc.invert(pc.is_in(rows["content"], batch.hashes)))["content"]
    alive = as_hashes(np.unique(as_bytes(others)))
    codes, texts = known.texts(alive) if len(alive) else (np.empty(0, np.uint8), [])
    write_texts(file, texts)
    place = np.where(places(met, alive) >= 0, places(met, alive) + len(batch.hashes), places(met, batch.hashes))
    here = place >= 0
    one, other = searched[new[here]], place[here]
    found = np.unique(pack(np.minimum(one, other), np.maximum(one, other)))
    return found, Texts(batch, alive, np.concatenate([batch.codes, codes]), file), rows


def write_texts(file: Path, texts: list[str]) -> None:
    """Write remembered texts as a table that :class:`Texts` can name."""
    schema = pa.schema([ROWS.field("text")])
    with pa.ipc.new_file(str(file), schema) as writer:
        writer.write_batch(pa.record_batch([text_column(texts)], schema))


def _by_component(candidates: Packed) -> Packed:
    """Pairs that are joined by candidates stand together, so that few texts are read twice."""
    union = Union()
    left, right = unpack(candidates)
    for one, other in zip(left.tolist(), right.tolist(), strict=True):
        union.join(one, other)
    labels = np.array([union.find(one) for one in left.tolist()], np.int64)
    return candidates[np.lexsort((candidates, labels))]
