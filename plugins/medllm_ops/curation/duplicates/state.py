"""The clusters after a step: of its rows, and of the rows from before whose cluster it touched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from medllm_ops.curation.duplicates.bands import pack
from medllm_ops.curation.duplicates.batch import Batch, part_files
from medllm_ops.curation.duplicates.clusters import Members, elect
from medllm_ops.curation.duplicates.hashes import CONTENT, Indices, as_bytes, as_hashes, numbered, places, whole
from medllm_ops.curation.duplicates.known import KNOWN_ROWS, Change, Contents, Known
from medllm_ops.curation.duplicates.links import Links, Texts, link, write_texts
from medllm_ops.curation.duplicates.settings import DuplicateSettings
from medllm_ops.curation.duplicates.verify import TextTables
from medllm_ops.curation.workers import Run


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a batch and rows from before whose cluster the batch touched, in the order of their ids."""

    ids: pa.Array
    row: Indices
    """The row of the batch; -1 for a row from before."""
    contents: pa.Array
    """Content hashes, sorted, that :attr:`Members.content` counts."""
    clusters: pa.Array
    """Names of clusters, that :attr:`Members.cluster` counts."""
    members: Members
    stood: pa.Array
    """The id of the row that stood for each before; null for a new row."""
    similar: npt.NDArray[np.float64]
    """How similar it was."""


@dataclass(frozen=True, slots=True)
class State:
    """What a step finds."""

    batch: Batch
    links: Links
    vanished: pa.Array
    """Ids of rows that are no more, or have another content now."""
    rows: Rows
    kept: npt.NDArray[np.bool_]
    stands: Indices
    """The place of the row that stands for each."""
    similarity: npt.NDArray[np.float64]

    def change(self) -> Change:
        """What is to be remembered."""
        rows, batch, fresh = self.rows, self.batch, self.links.fresh
        columns = {
            "id": rows.ids.cast(pa.string()),
            "content": rows.contents.take(pa.array(rows.members.content)),
            "cluster": rows.clusters.take(pa.array(rows.members.cluster)),
            "kept": rows.ids.take(pa.array(self.stands)).cast(pa.string()),
            "similarity": self.similarity,
            "length": pa.array(rows.members.length, pa.uint32()),
            "retracted": rows.members.retracted,
            "rank": pa.array(rows.members.rank, pa.uint16()),
        }
        tables = TextTables([str(file) for file in part_files(batch.parts)])

        def texts(begin: int, end: int) -> list[str]:
            found = zip(*(numbers.tolist() for numbers in batch.locate(fresh[begin:end])), strict=True)
            return [tables.get(table, row) for table, row in found]

        hashes = batch.hashes.take(pa.array(fresh))
        contents = Contents(hashes, batch.codes[fresh], lambda band: batch.keys(band, fresh), texts)
        return Change(self.vanished, pa.table(columns, schema=KNOWN_ROWS), contents)


def next_state(batch: Batch, known: Known, gone: pa.Array, settings: DuplicateSettings, run: Run, work: Path) -> State:
    """The clusters after the rows of a batch came and others went.

    First, what went goes: rows that are gone, and rows whose content is another one now (they come as new ones).
    Then the contents of the batch are linked, with each other and with what is remembered. Clusters only grow: a
    cluster that a vanished row once joined stays one. Rows that were kept stay kept (see
    :func:`~medllm_ops.curation.duplicates.clusters.elect`).
    """
    ids = batch.ids.cast(pa.string())
    before = known.by_id(pa.concat_arrays([ids, gone]))
    place = places(before["id"], ids)
    here = place >= 0
    same = np.zeros(len(place), bool)
    now = as_bytes(batch.hashes.take(pa.array(batch.content[place[here]])))
    same[here] = now == as_bytes(before["content"])[here]
    vanished, stay = before.filter(pa.array(~same)), before.filter(pa.array(same))
    lost = whole(vanished["id"])
    links = link(batch, known, lost, settings, run, work)
    touched = [links.names, pa.array(list(links.joined), CONTENT), whole(vanished["cluster"])]
    others = known.by_cluster(pc.unique(pa.concat_arrays(touched)))
    others = others.filter(pc.invert(pc.is_in(others["id"], pa.concat_arrays([ids, lost]))))
    rows = _rows(batch, links, stay, others)
    kept, stands = elect(rows.members)
    similarity = _similarity(batch, links, rows, stands, known, settings, run, work)
    return State(batch, links, lost, rows, kept, stands, similarity)


def _rows(batch: Batch, links: Links, stay: pa.Table, others: pa.Table) -> Rows:
    """The rows whose cluster is looked at, as one.

    :param stay: what is remembered of rows of the batch that have the same content as before.
    :param others: remembered rows that are not in the batch.
    """
    ids, row = batch.ids, np.arange(batch.rows)
    contents, content, clusters, cluster = batch.hashes, batch.content, links.names, links.cluster[batch.content]
    stood, similar = pa.nulls(batch.rows, pa.string()), np.ones(batch.rows)
    length, retracted, rank = batch.length.astype(np.int64), batch.retracted, batch.rank.astype(np.int64)
    if stay.num_rows:
        at = places(ids.cast(pa.string()), stay["id"])
        stood = whole(stay["kept"]).take(pa.array(at, mask=at < 0))
        similar[at >= 0] = stay["similarity"].to_numpy()[at[at >= 0]]
    if others.num_rows:
        every = pa.concat_arrays([ids, whole(others["id"]).cast(pa.large_string())])
        order = pc.sort_indices(every).to_numpy()
        ids = every.take(pa.array(order))
        row = np.concatenate([row, np.full(others.num_rows, -1)])[order]
        content, _, known = numbered(np.concatenate([as_bytes(contents)[content], as_bytes(others["content"])])[order])
        contents = as_hashes(known)
        names = pa.array([links.joined.get(one, one) for one in others["cluster"].to_pylist()], CONTENT)
        cluster, _, known = numbered(np.concatenate([as_bytes(clusters)[cluster], as_bytes(names)])[order])
        clusters = as_hashes(known)
        stood = pa.concat_arrays([stood, whole(others["kept"])]).take(pa.array(order))
        similar = np.concatenate([similar, others["similarity"].to_numpy()])[order]
        length = np.concatenate([length, others["length"].to_numpy()])[order].astype(np.int64)
        retracted = np.concatenate([retracted, others["retracted"].to_numpy()])[order].astype(bool)
        rank = np.concatenate([rank, others["rank"].to_numpy()])[order].astype(np.int64)
    was_kept = pc.fill_null(pc.equal(stood, ids.cast(pa.string())), False).to_numpy(zero_copy_only=False)
    members = Members(cluster, retracted, length, rank, was_kept, content)
    return Rows(ids, row, contents, clusters, members, stood, similar)


def _similarity(
    batch: Batch,
    links: Links,
    rows: Rows,
    stands: Indices,
    known: Known,
    settings: DuplicateSettings,
    run: Run,
    work: Path,
) -> npt.NDArray[np.float64]:
    """How similar each row is to the one that stands for it: as verified now, or before, or else measured now."""
    content = rows.members.content
    similarity = np.ones(len(content))
    near = np.flatnonzero(content != content[stands])
    as_before = pc.equal(rows.stood.take(pa.array(near)), rows.ids.cast(pa.string()).take(pa.array(stands[near])))
    # Who stands for others as before may have another text now.
    stayed = pc.is_valid(rows.stood.take(pa.array(stands[near])))
    carried = pc.fill_null(pc.and_(as_before, stayed), False).to_numpy(zero_copy_only=False)
    similarity[near[carried]] = rows.similar[near[carried]]
    near = near[~carried]
    # From here on, contents are counted as links and texts count them: those of the batch, then remembered ones.
    used = np.unique(content[np.concatenate([near, stands[near]])])
    hashes = rows.contents.take(pa.array(used))
    number = places(hashes, batch.hashes)
    remembered = hashes.filter(pa.array(number < 0))
    number[number < 0] = np.arange(len(remembered)) + len(batch.hashes)
    one = number[np.searchsorted(used, content[near])]
    other = number[np.searchsorted(used, content[stands[near]])]
    wanted, back = np.unique(pack(np.minimum(one, other), np.maximum(one, other)), return_inverse=True)
    values = np.full(len(wanted), -1.0)
    ours = (wanted & np.uint64(0xFFFFFFFF)) < len(batch.hashes)
    at = np.searchsorted(links.near, wanted)
    at[at == len(links.near)] = 0
    if len(links.near):
        verified = ours & (links.near[at] == wanted)
        values[verified] = links.similarity[at[verified]]
    missing = values < 0
    if missing.any():
        codes, texts = known.texts(remembered) if len(remembered) else (np.empty(0, np.uint8), [])
        write_texts(work / "stands.arrow", texts)
        where = Texts(batch, remembered, np.concatenate([batch.codes, codes]), work / "stands.arrow")
        values[missing] = where.similarities(wanted[missing], settings, run, work, join=False)
    similarity[near] = values[back]
    return similarity
