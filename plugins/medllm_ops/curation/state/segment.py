"""The table of a segment's lines, and which line stands for each id."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from medllm_ops.curation.duplicates.hashes import CONTENT, whole
from medllm_ops.curation.settings import STEPS
from medllm_ops.errors import MedllmError

NAME: Final = pa.dictionary(pa.int32(), pa.string())

INDEX: Final = pa.schema(
    [
        ("id", pa.string()),
        ("source", NAME),
        ("digest", CONTENT),
        ("begin", pa.uint64()),
        ("length", pa.uint32()),
        ("cut", pa.uint32()),
        ("language", NAME),
        ("licence", NAME),
        ("characters", pa.uint32()),
        ("step", NAME),
        ("reason", NAME),
        ("detail", pa.string()),
    ]
)
"""``index.parquet``: a line for every input line. ``id`` (of a line that is no record: ``<file name>:<byte>``),
``source`` and ``digest`` (xxh3-128 of the input row) are never null. ``begin``, ``length`` (with the line end) and
``cut`` are the place of the line in ``rows/<source>.jsonl``, null for a line that does not go on; then ``step`` and
``reason`` say why, which are null otherwise."""


class Index:
    """The table of a segment.

    :raises MedllmError: if it cannot be read as one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._schema = pq.read_schema(path)
            self.lines: int = pq.read_metadata(path).num_rows
        except (OSError, pa.ArrowInvalid) as error:
            raise MedllmError(f"{path} is no table of rows: {error}") from error
        if not self._schema.equals(INDEX):
            raise MedllmError(f"{path} is not the table of a segment: its columns are {self._schema.names}")

    def __str__(self) -> str:
        return str(self._path)

    def column(self, name: str) -> pa.Array:
        """A column, in one array."""
        column = pq.read_table(self._path, columns=[name]).column(0)
        return column.unify_dictionaries().combine_chunks() if pa.types.is_dictionary(column.type) else whole(column)

    def ids(self) -> pa.ChunkedArray:
        """The ids, as they are in the file: in one array they would be there twice for a moment."""
        return pq.read_table(self._path, columns=["id"]).column(0)

    def numbers(self, name: str) -> npt.NDArray[Any]:
        """A column of numbers; 0 where there is none."""
        numbers: npt.NDArray[Any] = pc.fill_null(self.column(name), 0).to_numpy()
        return numbers

    def batches(self, columns: Sequence[str], size: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Some columns, at most ``size`` lines at a time, each time with the number of the first."""
        first = 0
        for batch in pq.ParquetFile(self._path).iter_batches(batch_size=size, columns=list(columns)):
            yield first, batch
            first += batch.num_rows


def give_back() -> None:
    """Have Arrow give the system back what it keeps for later: as much as it ever held."""
    pa.default_memory_pool().release_unused()


@dataclass(frozen=True, slots=True)
class Standing:
    """Which lines of a segment stand for their ids."""

    going: npt.NDArray[np.bool_]
    """By line: whether it went on to duplicates."""
    dropped: pa.Array
    """The ids of lines that did not."""
    withdrawn: frozenset[str] = frozenset()
    """Ids that one line retracts while another one goes on; nothing of them stays."""
    again: frozenset[int] = field(default=frozenset())
    """Lines that did not go on, and are not what is told of their id."""


def standing(index: Index, retracted: tuple[str, str]) -> Standing:
    """Decide which of the lines of one id stands for it.

    A line that retracts it; else one that goes on (duplicates choose among several); else, of several that were
    dropped, the one of the earliest step, then by reason, detail and digest.

    :param retracted: the step and the reason of a line that retracts its id.
    """
    going = index.column("step").is_null().to_numpy(zero_copy_only=False)
    ids = index.ids()
    every = ids.filter(pa.array(~going))
    dropped = pc.unique(every)
    if not len(dropped):
        return Standing(going, dropped)
    both = pc.unique(ids.filter(pc.and_(pa.array(going), pc.is_in(ids, dropped))))
    several = pa.array([], pa.string())
    if len(dropped) < len(every):
        counts = pc.value_counts(every)
        several = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    contested = pa.concat_arrays([both, several])
    if not len(contested):
        return Standing(going, dropped)
    lines = np.flatnonzero(~going & pc.is_in(ids, contested).to_numpy())
    return _choose(
        index, lines, whole(ids.take(pa.array(lines))), going, dropped, frozenset(both.to_pylist()), retracted
    )


def _choose(
    index: Index,
    lines: npt.NDArray[np.int64],
    ids: pa.Array,
    going: npt.NDArray[np.bool_],
    dropped: pa.Array,
    both: frozenset[str],
    retracted: tuple[str, str],
) -> Standing:
    at = pa.array(lines)
    columns = [index.column(name).take(at).to_pylist() for name in ("step", "reason", "detail", "digest")]
    candidates: Mapping[str, list[Any]] = defaultdict(list)
    for line, id_, step, reason, detail, digest in zip(lines.tolist(), ids.to_pylist(), *columns, strict=True):
        retracts = (step, reason) == retracted
        candidates[id_].append((not retracts, STEPS.index(step), reason, detail or "", digest, line))
    withdrawn = set()
    again = set(lines.tolist())
    for id_, those in candidates.items():
        best = min(those)
        if id_ not in both or not best[0]:
            again.discard(best[-1])
        if id_ in both and not best[0]:
            withdrawn.add(id_)
    return Standing(going, dropped, frozenset(withdrawn), frozenset(again))
