"""Compaction frees disk and takes nothing that is still wanted; verification sees each kind of damage."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest

from corpus.toys import bring, deletion, document, exported, reject, texts
from medllm_ops.corpus import maintenance
from medllm_ops.corpus import manifest as manifests
from medllm_ops.corpus.lease import LeaseError
from medllm_ops.corpus.maintenance import compact, verify
from medllm_ops.corpus.manifest import CorpusError
from medllm_ops.corpus.reader import Snapshot
from medllm_ops.corpus.schema import EVENTS, FILES, RECORDS, REJECTS
from medllm_ops.corpus.storage import Storage
from medllm_ops.corpus.writer import open_writer


@pytest.fixture(autouse=True)
def corpus(storage: Storage) -> None:
    """Six versions; every record of 1 to 5 changed five times."""
    chance = random.Random(1)
    for said in range(6):
        records = [document(n, chance.randbytes(10_000).hex()) for n in range(5)]
        bring(storage, f"file {said}", [*records, document(10 + said), reject(20), deletion(9 + said)], whole=said == 2)


def size(storage: Storage) -> int:
    """Bytes of the tables."""
    return sum(path.stat().st_size for path in Path(storage.url, "tables").rglob("*") if path.is_file())


def test_compaction_keeps_what_is_wanted_and_frees_the_rest(storage: Storage) -> None:
    manifests.tag(storage, "second", 2)
    before = {version: exported(storage, version) for version in range(1, 7)}
    freed = compact(storage, keep=3)
    assert manifests.versions(storage) == [2, 5, 6, 7]
    assert {version: exported(storage, version) for version in (2, 5, 6)} == {n: before[n] for n in (2, 5, 6)}
    assert exported(storage) == before[6]
    assert freed > 0
    for version in (2, 5, 6, 7):
        assert list(verify(Snapshot(storage, version))) == []
    for version in (1, 3, 4):
        with pytest.raises(CorpusError, match=f"the corpus has no version {version}"):
            Snapshot(storage, version)
    bring(storage, "next", [document(1, "next")])
    assert texts(storage)["1"] == "next"


def test_compaction_down_to_one_version(storage: Storage) -> None:
    before, full = exported(storage), size(storage)
    compact(storage, keep=1)
    assert len(manifests.versions(storage)) == 1
    small = size(storage)
    assert small < full / 2
    assert exported(storage) == before
    assert compact(storage, keep=1) >= 0
    assert size(storage) <= small
    for name in ("records", "events", "files", "rejects", "members"):
        assert len(Snapshot(storage).table("toy", name)._data.versions()) == 1


def test_compaction_is_refused_while_a_writer_is_at_work(storage: Storage) -> None:
    with open_writer(storage, "toy"), pytest.raises(LeaseError, match="toy is being written by"):
        compact(storage)
    assert manifests.versions(storage) == [*range(1, 7)]


def test_a_version_published_in_the_middle_of_compaction_is_kept(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = manifests.delete

    def delete_and_publish(place: Storage, version: int) -> None:
        delete(place, version)
        bring(place, f"meanwhile {version}", [document(100 + version)])

    monkeypatch.setattr(manifests, "delete", delete_and_publish)
    compact(storage, keep=4)
    monkeypatch.undo()
    for version in manifests.versions(storage):
        assert list(verify(Snapshot(storage, version))) == []
    assert manifests.versions(storage) == [*range(4, 11)]


def test_what_killed_writers_left_is_freed(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    compact(storage, keep=1)
    small = size(storage)
    with monkeypatch.context() as patch:
        patch.setattr(manifests, "publish", lambda *_: 1 / 0)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                bring(storage, "killed", [document(n, random.randbytes(1000).hex()) for n in range(100)])
    assert size(storage) > small + 50_000
    compact(storage, keep=1)
    assert size(storage) < small + 20_000


Damage = Callable[[Any, Any], None]


def change(table: str, where: str, **values: str) -> Damage:
    return lambda tables, _: tables(table).update(values, where)


def lose(table: str, where: str) -> Damage:
    return lambda tables, _: tables(table).delete(where)


def add(table: str, row: dict[str, Any], schema: pa.Schema) -> Damage:
    return lambda tables, _: tables(table).insert(pa.Table.from_pylist([row], schema))


def double(tables: Any, _: Any) -> None:
    data = tables("records")
    data.insert(data.to_table(filter="id = 'toy:1'"))


def roll_back(tables: Any, storage: Storage) -> None:
    """A record as it was three versions ago: its hash is right, but it is not what was last said."""
    old = Snapshot(storage, 3).table("toy", "records")._data.to_table(filter="id = 'toy:1'")
    data = tables("records")
    data.delete("id = 'toy:1'")
    data.insert(old)


FACT = {"id": "toy:ghost", "event": "added", "version": 1, "date": "", "file": "", "hash": b"x" * 16}
NOTHING = '{"step":"x","in":0,"out":0,"dropped":{},"events":{},"rejects":0}'
DAMAGES: dict[str, tuple[Damage, list[str]]] = {
    "another text": (
        change("records", "id = 'toy:1'", text="'forged'"),
        ["toy:1 does not have the content that its hash says"],
    ),
    "another hash": (
        change("records", "id = 'toy:1'", hash=f"X'{'00' * 16}'"),
        ["toy:1 does not have the content", "toy:1 is not what its last fact says"],
    ),
    "no hash": (
        change("records", "id = 'toy:1'", hash="NULL"),
        ["toy:1 does not have the content", "toy:1 is not what its last fact says"],
    ),
    "an older state": (roll_back, ["toy:1 is not what its last fact says"]),
    "a record twice": (double, ["toy:1 is there more than once"]),
    "a record lost": (lose("records", "id = 'toy:1'"), ["toy:1 has facts, but no record"]),
    "a deletion undone": (
        change("records", "id = 'toy:10'", deleted="NULL"),
        ["toy:10 does not have the content", "toy:10 is not what its last fact says"],
    ),
    "a deletion that nobody made": (
        change("records", "id = 'toy:1'", deleted="'gone'"),
        ["toy:1 is deleted, but its text is still there", "toy:1 is not what its last fact says"],
    ),
    "a record that nobody brought": (
        add("records", {"id": "toy:ghost", "deleted": "x"}, RECORDS),
        ["toy:ghost is not what its last fact says"],
    ),
    "a fact lost": (
        lose("events", "id = 'toy:10' AND event = 'deleted'"),
        ["toy:10 is not what its last fact says", "the facts are {'added': 11, 'changed': 25, 'deleted': 4}"],
    ),
    "a fact too many": (
        add("events", FACT, EVENTS),
        ["toy:ghost has facts, but no record", "the facts are {'added': 12,"],
    ),
    "a reject lost": (
        lose("rejects", "number = 3"),
        ["the rejects of raw file 3 are not 1, as its ledger says"],
    ),
    "a reject too many": (
        add("rejects", {"number": 9, "file": "x"}, REJECTS),
        ["there are rejects of raw files that were never applied: 9"],
    ),
    "a raw file forgotten": (
        lose("files", "number = 2"),
        ["there are rejects of raw files that were never applied: 2", "the facts are"],
    ),
    "a raw file twice": (
        lambda tables, _: tables("files").insert(tables("files").to_table(filter="number = 6")),
        ["raw file 6 comes after raw file 6", "the rejects of raw file 6 are not 1", "the facts are"],
    ),
    "a raw file of the future": (
        add("files", {"number": 8, "ledger": NOTHING}, FILES),
        ["raw file 8 comes after raw file 6"],
    ),
    "a ledger that does not balance": (
        change("files", "number = 1", ledger="replace(ledger, '\"in\":8', '\"in\":9')"),
        ["raw file 1 comes after raw file 6", "step corpus toy does not balance: 9 in"],
    ),
}  # fmt: skip


@pytest.fixture
def tables(storage: Storage) -> Iterator[Callable[[str], Any]]:
    """The tables through Lance itself; what was done to them is in the latest version afterwards."""
    used: dict[str, Any] = {}

    def open_one(name: str) -> Any:
        return used.setdefault(name, lance.dataset(Path(storage.url) / "tables" / "toy" / f"{name}.lance"))

    def publish(state: manifests.SourceState) -> manifests.SourceState:
        versions = {name: data.version for name, data in used.items()}
        return state.model_copy(update={"tables": state.tables | versions})

    open_one.publish = lambda: manifests.publish(storage, "toy", publish)  # type: ignore[attr-defined]
    return open_one  # type: ignore[return-value]


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_seen(
    storage: Storage, tables: Any, damage: str, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "_ROWS_AT_ONCE", 42 // parts + 1)
    assert list(verify(Snapshot(storage))) == []
    do, expected = DAMAGES[damage]
    do(tables, storage)
    tables.publish()
    found = list(verify(Snapshot(storage)))
    assert len(found) == len(expected), found
    for sentence, start in zip(found, expected, strict=True):
        assert sentence.startswith(f"version 7, toy: {start}")
    assert list(verify(Snapshot(storage, 6))) == []


def test_a_lost_data_file_is_seen(storage: Storage) -> None:
    for path in (Path(storage.url) / "tables" / "toy" / "rejects.lance").rglob("*.lance"):
        path.unlink()
    (found,) = verify(Snapshot(storage))
    assert found.startswith("version 6, toy: table ")
    assert "cannot be read" in found


def test_a_lost_table_version_is_seen(storage: Storage) -> None:
    for path in (Path(storage.url) / "tables" / "toy" / "records.lance" / "_versions").iterdir():
        path.unlink()
    found = list(verify(Snapshot(storage)))
    assert len(found) == 2
    assert all("cannot be read" in sentence for sentence in found)
