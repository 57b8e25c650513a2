"""What the step says: the table of clusters, the list of what was removed, and the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from medllm_ops.curation.duplicates.batch import Batch
from medllm_ops.curation.duplicates.hashes import CONTENT, Indices, places, whole
from medllm_ops.curation.duplicates.state import State
from medllm_ops.curation.parts import staying
from medllm_ops.files import to_json_line
from medllm_ops.records import LedgerEntry

KEPT: Final = "kept"
EXACT: Final = "exact"
NEAR: Final = "near"
SAME_ID: Final = "same id"
REASONS: Final = {EXACT: "exact duplicate", NEAR: "near duplicate", SAME_ID: "another row has the same id"}
STEPS: Final = {SAME_ID: "exact dedup", EXACT: "exact dedup", NEAR: "near dedup"}

CLUSTERS: Final = pa.schema(
    [
        ("id", pa.large_string()),
        ("set", pa.dictionary(pa.int32(), pa.string())),
        ("position", pa.uint64()),
        ("content", CONTENT),
        ("cluster", CONTENT),
        ("kept", pa.large_string()),
        ("kind", pa.dictionary(pa.int32(), pa.string())),
        ("similarity", pa.float64()),
    ]
)
"""A row of ``clusters.parquet``: ``set`` and ``position`` (the byte where its line begins) say where the row was read,
and are null for rows from before whose cluster this step touched. ``content`` and ``cluster`` are hashes. ``kept`` is
the id of the row that stands for this one, ``kind`` one of kept, exact, near and same id, ``similarity`` the true
Jaccard similarity with the kept row."""


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What :func:`medllm_ops.curation.duplicates.duplicates.deduplicate` wrote into its folder."""

    folder: Path

    @property
    def clusters(self) -> Path:
        """The table of :data:`CLUSTERS`, in the order of ids."""
        return self.folder / "clusters.parquet"

    @property
    def removed(self) -> Path:
        """JSON lines of what does not stay: ``id``, ``step``, ``reason``, ``kept``."""
        return self.folder / "removed.jsonl"

    @property
    def ledger(self) -> tuple[LedgerEntry, ...]:
        """The counts of the exact and of the near step."""
        return tuple(LedgerEntry.from_row(row) for row in orjson.loads((self.folder / "ledger.json").read_bytes()))

    @property
    def figures(self) -> dict[str, Any]:
        """``contents``, ``candidates``, ``near_pairs``, ``clusters``; ``joined``: old cluster to new one."""
        figures: dict[str, Any] = orjson.loads((self.folder / "figures.json").read_bytes())
        return figures

    def staying(self, name: str, path: Path) -> Iterator[bytes]:
        """The lines of a set that stay, in the order of its file."""
        table = pq.read_table(
            self.clusters, columns=["position"], filters=(pc.field("set") == name) & (pc.field("kind") != KEPT)
        )
        yield from staying(path, set(table["position"].to_pylist()))


def write_result(folder: Path, state: State, sets: Sequence[str]) -> None:
    """Write the files of :class:`Duplicates`."""
    table = _table(state, sets)
    pq.write_table(table, folder / "clusters.parquet", compression="zstd", row_group_size=1 << 17)
    joined = {one.hex(): other.hex() for one, other in sorted(state.links.joined.items())}
    figures = {
        "contents": len(state.batch.hashes),
        "candidates": state.links.candidates,
        "near_pairs": len(state.links.near),
        "clusters": len(state.links.names),
        "joined": joined,
    }
    (folder / "figures.json").write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2))
    exact, near = LedgerEntry("exact dedup"), LedgerEntry("near dedup")
    ours = table.filter(pc.is_valid(table["set"])).select(["id", "kept", "kind"])
    exact.rows_in = ours.num_rows
    counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(ours["kind"].cast(pa.string())).to_pylist()}
    for kind in (SAME_ID, EXACT, NEAR):
        if counts.get(kind):
            (near if kind == NEAR else exact).drop(REASONS[kind], counts[kind])
    exact.rows_out = near.rows_in = counts.get(KEPT, 0) + counts.get(NEAR, 0)
    near.rows_out = counts.get(KEPT, 0)
    gone = ours.filter(pc.not_equal(ours["kind"].cast(pa.string()), KEPT))
    with (folder / "removed.jsonl").open("wb") as file:
        for batch in gone.to_batches(max_chunksize=10_000):
            for id_, kept, kind in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                file.write(to_json_line({"id": id_, "step": STEPS[kind], "reason": REASONS[kind], "kept": kept}))
    rows = [entry.check().to_row() for entry in (exact, near)]
    (folder / "ledger.json").write_bytes(orjson.dumps(rows, option=orjson.OPT_INDENT_2))


def _table(state: State, sets: Sequence[str]) -> pa.Table:
    batch, rows, members = state.batch, state.rows, state.rows.members
    of_batch = rows.row >= 0
    line = np.where(of_batch, batch.line[rows.row] if batch.rows else 0, 0).astype(np.int64)
    kinds = np.where(state.kept, 0, np.where(members.content == members.content[state.stands], 1, 2))
    first = _places(batch, line, sets, ~of_batch)
    main = pa.table(
        {
            "id": rows.ids,
            **first,
            "content": rows.contents.take(pa.array(members.content)),
            "cluster": rows.clusters.take(pa.array(members.cluster)),
            "kept": rows.ids.take(pa.array(state.stands)),
            "kind": _dictionary((KEPT, EXACT, NEAR), kinds),
            "similarity": state.similarity,
        },
        schema=CLUSTERS,
    )
    again = batch.again.astype(np.int64)
    if not len(again):
        return main
    ids = whole(batch.column("id").take(pa.array(again)))
    stands = places(ids, batch.ids)
    names = state.links.names.take(pa.array(state.links.cluster[batch.content[stands]]))
    more = pa.table(
        {
            "id": ids,
            **_places(batch, again, sets, np.zeros(len(again), bool)),
            "content": whole(batch.column("content").take(pa.array(again))),
            "cluster": names,
            "kept": ids,
            "kind": _dictionary((SAME_ID,), np.zeros(len(again))),
            "similarity": pa.nulls(len(again), pa.float64()),
        },
        schema=CLUSTERS,
    )
    return pa.concat_tables([main, more]).unify_dictionaries()


def _places(batch: Batch, line: Indices, sets: Sequence[str], before: npt.NDArray[np.bool_]) -> dict[str, pa.Array]:
    part = np.clip(np.searchsorted(batch.starts, line, side="right") - 1, 0, None)
    of_part = np.array([job["set"] for job in batch.parts] or [0])
    numbers = pa.array(of_part[np.minimum(part, len(of_part) - 1)].astype(np.int32), mask=before)
    positions = whole(batch.column("position")).to_numpy() if batch.parts else np.zeros(1, np.uint64)
    return {
        "set": pa.DictionaryArray.from_arrays(numbers, pa.array(sets, pa.string())),
        "position": pa.array(positions[np.minimum(line, len(positions) - 1)], mask=before),
    }


def _dictionary(values: Sequence[str], numbers: npt.NDArray[Any]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(numbers.astype(np.int32)), pa.array(values, pa.string()))
