"""The state of curation as a dataset sees it: its own sources only, and rows with the licence of their source."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from medllm_ops.curation.state.listing import KEPT_ROWS, Count, KeptRows, Removed, StateRow
from medllm_ops.curation.state.state import CurationState


class Selection(CurationState):
    """Some sources of an open state, for reading only.

    :param sources: their names; None: all.
    :param licences: what rows of a source that name no licence get, by source.
    """

    def __init__(self, state: CurationState, sources: Collection[str] | None, licences: Mapping[str, str]) -> None:
        self.folder = state.folder
        self._state = state
        self._sources = None if sources is None else frozenset(sources)
        self._licences = licences

    def _has(self, source: str) -> bool:
        return self._sources is None or source in self._sources

    def close(self) -> None:
        """Leave it open: who opened it closes it."""

    def segments(self) -> Sequence[Path]:
        """See :meth:`CurationState.segments`."""
        return self._state.segments()

    def kept(self) -> Iterator[KeptRows]:
        """See :meth:`CurationState.kept`."""
        for kept in self._state.kept():
            rows = kept.rows
            if self._sources is not None:
                chosen = pc.is_in(rows["source"].cast(pa.string()), value_set=pa.array(sorted(self._sources)))
                rows = rows.filter(chosen).combine_chunks()
            if len(rows):
                yield KeptRows(kept.segment, self._with_licences(rows))

    def _with_licences(self, rows: pa.Table) -> pa.Table:
        named = rows["licence"].cast(pa.string())
        lacking = pc.equal(pc.utf8_trim_whitespace(pc.fill_null(named, "")), "")
        if not pc.any(lacking).as_py():
            return rows
        sources = rows["source"].combine_chunks()
        names = sources.dictionary.to_pylist()
        of_source = pa.array([self._licences.get(name, "") for name in names], pa.string())
        field = KEPT_ROWS.field("licence")
        filled = pc.if_else(lacking, of_source.take(sources.indices), named)
        column = pa.chunked_array([filled.combine_chunks()]).dictionary_encode().cast(field.type)
        return rows.set_column(rows.schema.get_field_index("licence"), field, column.combine_chunks())

    def counts(self) -> Sequence[Count]:
        """See :meth:`CurationState.counts`."""
        return [count for count in self._state.counts() if self._has(count.source)]

    def removed(self, step: str) -> Iterator[Removed]:
        """See :meth:`CurationState.removed`."""
        return (row for row in self._state.removed(step) if self._has(row.source))

    def sample_clusters(self, count: int) -> Sequence[Sequence[StateRow]]:
        """See :meth:`CurationState.sample_clusters`."""
        return self._state.sample_clusters(count)
