from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from medllm_ops.curation.state.listing import KEPT_ROWS, Count, KeptRows, Removed
from medllm_ops.datasets.selection import Selection


class State:
    """What a selection reads of a state."""

    folder = Path("somewhere")

    def __init__(self, *rows: tuple[str, str, str | None]) -> None:
        self._rows = rows

    def segments(self) -> Sequence[Path]:
        return [Path("one")]

    def kept(self) -> Iterator[KeptRows]:
        values: dict[str, Any] = {
            "id": [id_ for id_, _, _ in self._rows],
            "source": [source for _, source, _ in self._rows],
            "licence": [licence for _, _, licence in self._rows],
        }
        table = pa.table(
            [
                pa.array(values.get(field.name, [None] * len(self._rows)), pa.string()).cast(field.type)
                if field.name in values
                else pa.nulls(len(self._rows), field.type)
                for field in KEPT_ROWS
            ],
            schema=KEPT_ROWS,
        )
        yield KeptRows(Path("one"), table)

    def counts(self) -> Sequence[Count]:
        return [Count("", "", source, 1) for _, source, _ in self._rows]

    def removed(self, step: str) -> Iterator[Removed]:
        return (Removed(id_, source, step, "why", "", "") for id_, source, _ in self._rows)

    def sample_clusters(self, count: int) -> Sequence[Any]:
        return []


STATE = State(("a:1", "a", None), ("b:1", "b", "MIT"), ("a:2", "a", " "), ("c:1", "c", ""), ("a:3", "a", "CC0"))


def select(*arguments: Any) -> Selection:
    return Selection(STATE, *arguments)  # type: ignore[arg-type]


def kept(selection: Selection) -> list[tuple[str, str | None]]:
    columns = (found.rows.select(["id", "licence"]).to_pydict() for found in selection.kept())
    return [pair for column in columns for pair in zip(*column.values(), strict=True)]


def test_all_with_the_licences_of_their_sources() -> None:
    found = kept(select(None, {"a": "Apache-2.0", "b": "other"}))
    assert found == [("a:1", "Apache-2.0"), ("b:1", "MIT"), ("a:2", "Apache-2.0"), ("c:1", ""), ("a:3", "CC0")]


def test_only_some_sources() -> None:
    selection = select(["b", "c"], {})
    assert [id_ for id_, _ in kept(selection)] == ["b:1", "c:1"]
    assert [count.source for count in selection.counts()] == ["b", "c"]
    assert [row.id for row in selection.removed("read")] == ["b:1", "c:1"]
    assert kept(select(["d"], {})) == []


def test_the_columns_stay_as_they_are() -> None:
    for found in select(["a", "b"], {"a": "MIT"}).kept():
        assert found.rows.schema == KEPT_ROWS
        assert {column.num_chunks for column in found.rows.columns} == {1}
