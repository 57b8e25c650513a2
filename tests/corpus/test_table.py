"""One table: rows by key and in order, versions one by one, and what a killed or foreign writer left."""

from __future__ import annotations

from pathlib import Path

import lance
import pyarrow as pa
import pytest

from medllm_ops.corpus import table as tables
from medllm_ops.corpus.manifest import CorpusError
from medllm_ops.corpus.storage import Storage
from medllm_ops.corpus.table import Table, quoted

SCHEMA = pa.schema([pa.field("id", pa.string()), pa.field("said", pa.int64())])


def batch(*ids: str, said: int = 0) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([{"id": name, "said": said} for name in ids], SCHEMA)


@pytest.fixture
def table(any_storage: Storage) -> Table:
    table = Table(any_storage, "t", SCHEMA, 0)
    table.append([batch("a", "b"), batch("c")])
    return table


def rows(table: Table) -> list[tuple[str, int]]:
    return [(row["id"], row["said"]) for found in table.scan(SCHEMA.names) for row in found.to_pylist()]


def again(table: Table, version: int | None = None) -> Table:
    """The same table, opened anew."""
    other = object.__new__(Table)
    vars(other).update(vars(table))
    other.version = table.version if version is None else version
    other._data = other._open(other.version)
    return other


def test_each_write_is_the_next_version(table: Table) -> None:
    assert table.version == 1
    table.upsert(["b"], [batch("b", "d", said=1)])
    assert table.version == 3
    table.upsert([], [batch("e", said=1)])
    table.delete("id = 'a'")
    assert table.version == 5
    table.delete("id = 'nothing'")
    table.append([])
    table.upsert([], [])
    assert table.version == 5
    assert rows(table) == [("c", 0), ("b", 1), ("d", 1), ("e", 1)]
    assert rows(again(table, 1)) == [("a", 0), ("b", 0), ("c", 0)]
    assert (table.rows(), table.rows("said = 1"), again(table, 3).rows()) == (4, 3, 4)


def test_a_table_that_does_not_exist_yet_is_empty(any_storage: Storage) -> None:
    table = Table(any_storage, "t", SCHEMA, 0)
    table.reset()
    table.delete("id = 'a'")
    assert (table.version, table.rows(), rows(table)) == (0, 0, [])
    assert table.find(["said"], "id", ["a"]).to_pylist() == []
    assert not table.compact(always=True)
    assert table.clean({1}) == 0


@pytest.mark.parametrize("few", [0, 100])
def test_rows_are_found_by_their_key(table: Table, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    monkeypatch.setattr(tables, "_FEW", few)
    odd = ["it's", "''", 'a"b', "x\\", "y\n", "", "😀"]
    table.append([batch(*odd, said=5)])
    assert table.find(["id", "said"], "id", ["c", "a", "none"]).to_pylist() == [
        {"id": "a", "said": 0},
        {"id": "c", "said": 0},
    ]
    assert table.find(["id"], "id", odd)["id"].to_pylist() == odd
    assert table.find(["said"], "id", ["it's"]).to_pylist() == [{"said": 5}]
    assert table.find(["said"], "id", []).to_pylist() == []


def test_thirty_thousand_keys_at_once(storage: Storage) -> None:
    table = Table(storage, "t", SCHEMA, 0)
    table.append([batch(*(f"id{n}" for n in range(40_000)))])
    found = table.find(["id"], "id", [f"id{n}" for n in range(20_000, 50_000)])
    assert len(found) == 20_000


def test_rows_in_any_order(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_TAKE_ROWS", 3)
    table.append([batch(*"defg")])
    table.append([batch(*"hij")])
    table.delete("id IN ('b', 'e', 'h')")
    places = {row["id"]: row["_rowid"] for found in table.scan(["id"], row_ids=True) for row in found.to_pylist()}
    wanted = list("jacgdif")
    for order in (wanted, wanted[::-1], ["a"], []):
        ids = pa.chunked_array([[places[name] for name in order]], pa.uint64())
        assert [name for some in table.in_order(["id"], ids) for name in some["id"].to_pylist()] == order


def test_joined_fragments_hold_the_same_rows_in_the_same_order(table: Table) -> None:
    for name in "defgh":
        table.append([batch(name)])
    table.delete("id IN ('b', 'f')")
    table.upsert(["c"], [batch("c", said=1)])
    before, fragments = rows(table), len(table._data.get_fragments())
    assert not table.compact()
    assert table.compact(always=True)
    assert rows(table) == before == rows(again(table))
    assert len(table._data.get_fragments()) < fragments
    assert not table.compact(always=True)
    table.append([batch("z")])
    assert rows(table) == [*before, ("z", 0)]


def test_what_lies_beyond_is_undone(table: Table) -> None:
    killed = again(table)
    killed.append([batch("killed")])
    killed.upsert(["a"], [batch("a", said=9)])
    table.reset()
    assert rows(table) == rows(again(table)) == [("a", 0), ("b", 0), ("c", 0)]
    table.append([batch("d")])
    assert rows(again(table)) == [("a", 0), ("b", 0), ("c", 0), ("d", 0)]
    at = table.version
    table.reset()
    assert table.version == at


def test_a_first_write_that_was_never_published_is_undone(any_storage: Storage) -> None:
    Table(any_storage, "t", SCHEMA, 0).append([batch("killed")])
    table = Table(any_storage, "t", SCHEMA, 0)
    table.reset()
    assert rows(table) == []
    table.append([batch("a")])
    assert rows(again(table)) == [("a", 0)]


def test_a_first_write_killed_before_its_version_leaves_a_folder(storage: Storage) -> None:
    folder = Path(storage.url) / "t.lance" / "data"
    folder.mkdir(parents=True)
    (folder / "half.lance").write_bytes(b"half")
    table = Table(storage, "t", SCHEMA, 0)
    table.reset()
    table.append([batch("a")])
    assert rows(again(table)) == [("a", 0)]


FOREIGN = {
    "append": lambda table: table.append([batch("foreign")]),
    "upsert": lambda table: table.upsert(["a"], [batch("a", said=9)]),
    "delete": lambda table: table.delete("id = 'a'"),
    "compact": lambda table: table.compact(always=True),
    "reset": lambda table: again(table, 2).reset(),
}
OWN = {
    "append": lambda table: table.append([batch("own")]),
    "upsert": lambda table: table.upsert(["b"], [batch("b", said=7)]),
    "delete": lambda table: table.delete("id = 'b'"),
    "compact": lambda table: table.compact(always=True),
}


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("foreign", FOREIGN)
def test_a_write_upon_a_foreign_one_refuses_itself(storage: Storage, own: str, foreign: str) -> None:
    table = Table(storage, "t", SCHEMA, 0)
    for name in "abc":
        table.append([batch(name)])
    version, before = table.version, rows(table)
    FOREIGN[foreign](again(table))
    with pytest.raises(CorpusError, match="nothing of this work was published: run it again"):
        OWN[own](table)
    table = again(table, version)
    table.reset()
    assert rows(table) == before


def test_what_cannot_be_read_is_said_without_a_place_in_its_source(table: Table, storage: Storage) -> None:
    with pytest.raises(CorpusError, match=r"table .*t\.lance, version 7, cannot be read: .*not found") as caught:
        Table(storage, "t", SCHEMA, 7)
    assert ".rs:" not in str(caught.value)


def test_a_lost_data_file_is_said(storage: Storage) -> None:
    table = Table(storage, "t", SCHEMA, 0)
    table.append([batch("a")])
    for path in Path(storage.url).rglob("data/*.lance"):
        path.unlink()
    table = again(table)
    with pytest.raises(CorpusError, match="cannot be read"):
        rows(table)


def test_old_versions_are_cleaned_and_kept_ones_stay(table: Table) -> None:
    for said in range(1, 6):
        table.upsert([*"abc"], [batch(*"abc", said=said)])
    at = table.version
    assert again(table).clean({1, 5, at}) > 0
    assert [entry["version"] for entry in again(table)._data.versions()] == [1, 5, at]
    assert rows(again(table, 1)) == [("a", 0), ("b", 0), ("c", 0)]
    assert rows(again(table, 5)) == [("a", 2), ("b", 2), ("c", 2)]
    assert rows(again(table, at)) == [("a", 5), ("b", 5), ("c", 5)]
    table.append([batch("d")])
    assert table.version == at + 1
    assert table.clean({*range(100)}) == 0


def test_files_of_killed_writes_are_cleaned(storage: Storage) -> None:
    table = Table(storage, "t", SCHEMA, 0)
    table.append([batch("a")])
    table.append([batch("b")])
    orphan = Path(storage.url) / "t.lance" / "data" / "orphan.lance"
    lance.file.LanceFileWriter(str(orphan), SCHEMA).close()
    table.clean({2})
    assert not orphan.exists()
    assert rows(again(table)) == [("a", 0), ("b", 0)]


def test_quoted() -> None:
    assert quoted("it's") == "'it''s'"
