from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.toys import apply, bring, deletion, document, reject
from medllm_ops.corpus.maintenance import compact
from medllm_ops.corpus.manifest import CorpusError
from medllm_ops.corpus.reader import Snapshot
from medllm_ops.corpus.storage import Storage, open_storage
from medllm_ops.corpus.table import Table
from medllm_ops.corpus.writer import open_writer
from medllm_ops.records import Dialogue, Message, Preference, record_to_row

HELLO = (Message("user", "hello"), Message("assistant", "good \u2028 day"))


def between(storage: Storage, since: int, **more: Any) -> tuple[list[str] | None, list[str]]:
    found = Snapshot(storage).changes("toy", since, **more)
    changed = None if found.changed is None else sorted(found.changed.to_pylist())
    return changed, sorted(found.gone.to_pylist())


def rows(storage: Storage, ids: Any = None, since: int = 0) -> dict[str, dict[str, Any]]:
    read = map(orjson.loads, Snapshot(storage).lines("toy", ids, since))
    return {row["id"]: row for row in read}


def test_each_record_is_changed_or_gone_as_its_last_fact_says(any_storage: Storage) -> None:
    bring(any_storage, "file 1", [document(number) for number in range(6)])
    bring(any_storage, "file 2", [document(1, "other"), deletion(2), reject(3, withdraws=1), document(6)])
    bring(any_storage, "file 3", [document(2, "back"), document(4, retracted=True), document(7), deletion(7)])
    assert between(any_storage, 0) == (None, [])
    assert between(any_storage, 1) == (["toy:1", "toy:2", "toy:4", "toy:6"], ["toy:3", "toy:7"])
    assert between(any_storage, 2) == (["toy:2", "toy:4"], ["toy:7"])
    assert between(any_storage, 3) == ([], [])


def test_lines_are_those_of_the_records(storage: Storage) -> None:
    said = {"source": "toy", "language": "zh", "title": "a title", "url": "an address", "licence": "a licence"}
    records = [
        document(1, retracted=True, licence="CC0"),
        Dialogue(id="toy:2", messages=HELLO, **said),
        Preference(id="toy:3", messages=HELLO, rejected_response="go away", version=7, **said),
    ]
    bring(storage, "file 1", records)
    lines = sorted(Snapshot(storage).lines("toy"))
    assert lines == sorted(orjson.dumps(record_to_row(record)) + b"\n" for record in records)


def test_lines_of_few_and_of_many_ids(storage: Storage) -> None:
    bring(storage, "file 1", [document(number) for number in range(50)])
    bring(storage, "file 2", [document(number, "new") for number in range(10)])
    for wanted in (["toy:3"], [f"toy:{number}" for number in range(9)]):
        ids = Snapshot(storage).changes("toy", 1).changed
        assert sorted(rows(storage, ids, 1)) == sorted(f"toy:{number}" for number in range(10))
        chosen = ids.filter([name in wanted for name in ids.to_pylist()])
        found = rows(storage, chosen, 1)
        assert sorted(found) == wanted
        assert {row["messages"][0]["content"] for row in found.values()} == {"new"}


def test_a_cleaned_version_needs_the_number_of_its_facts(storage: Storage) -> None:
    bring(storage, "file 1", [document(1), document(2)])
    facts = Snapshot(storage).facts("toy")
    bring(storage, "file 2", [document(2, "new"), deletion(1)])
    compact(storage, keep=1)
    with pytest.raises(CorpusError, match="no version 1"):
        between(storage, 1)
    assert between(storage, 1, facts=facts) == (["toy:2"], ["toy:1"])
    ids = Snapshot(storage).changes("toy", 1, facts).changed
    assert rows(storage, ids, 1)["toy:2"]["messages"][0]["content"] == "new"


def test_only_what_was_written_since_is_read(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    bring(storage, "file 1", [document(number) for number in range(500)])
    bring(storage, "file 2", [document(number, "new") for number in range(10)])
    scan, read = Table.scan, []

    def counted(self: Table, *arguments: Any, **options: Any) -> Iterator[Any]:
        for batch in scan(self, *arguments, **options):
            read.append(len(batch))
            yield batch

    monkeypatch.setattr(Table, "scan", counted)
    snapshot = Snapshot(storage)
    found = snapshot.changes("toy", 1)
    assert len(list(snapshot.lines("toy", found.changed, 1))) == 10
    assert sum(read) == 30  # facts, ids, texts


def test_an_abandoned_generation_is_no_change(storage: Storage) -> None:
    bring(storage, "file 1", [document(1)], generation="2026")
    bring(storage, "file 2", [document(1, "new"), document(2)], generation="2027")
    assert between(storage, 1) == ([], [])
    bring(storage, "file 3", [document(3)], generation="2028", generation_complete=True)
    assert between(storage, 1) == (["toy:3"], ["toy:1"])


ITEMS = st.lists(
    st.tuples(st.sampled_from(["document", "deletion", "reject", "retracted"]), st.integers(0, 5), st.integers(0, 2)),
    max_size=6,
)


@settings(max_examples=25)
@given(histories=st.lists(ITEMS, min_size=1, max_size=5), compacted=st.integers(0, 5))
def test_changes_lead_from_any_version_to_the_last(
    tmp_path_factory: pytest.TempPathFactory, histories: list[list[tuple[str, int, int]]], compacted: int
) -> None:
    storage = open_storage(str(tmp_path_factory.mktemp("corpus")))
    states: list[tuple[int, dict[str, dict[str, Any]]]] = [(0, {})]
    for number, items in enumerate(histories):
        made = {
            "document": lambda of, text: document(of, f"text {text}"),
            "retracted": lambda of, text: document(of, f"text {text}", retracted=True),
            "deletion": lambda of, _: deletion(of),
            "reject": lambda of, _: reject(of, withdraws=1),
        }
        with open_writer(storage, "toy") as writer:
            apply(writer, f"file {number}", [made[kind](of, text) for kind, of, text in items])
        if number == compacted:
            compact(storage)
        states.append((Snapshot(storage).version, rows(storage)))
    path = Path(storage.url)
    assert path.is_dir()
    now = states[-1][1]
    for version, before in states:
        found = Snapshot(storage).changes("toy", version)
        told = rows(storage, found.changed, version)
        gone = set(found.gone.to_pylist())
        assert {key: row for key, row in before.items() if key not in gone} | told == now
        assert not gone & set(now)
        if found.changed is not None:
            assert sorted(told) == sorted(found.changed.to_pylist())
