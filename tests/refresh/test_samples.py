"""Every record of every real sample file is accounted for in the corpus."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from medllm_ops.corpus.items import write_items
from medllm_ops.corpus.maintenance import verify
from medllm_ops.corpus.reader import Snapshot
from medllm_ops.corpus.storage import open_storage
from medllm_ops.corpus.writer import open_writer
from medllm_ops.fetch.base import FetchedFile
from medllm_ops.records import Deletion, Reject
from medllm_ops.sources import get_source, list_files


def test_every_record_of_every_file_is_accounted_for(samples: Path, tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "corpus"))
    for name, files in list_files(samples).items():
        source = get_source(name)
        expected: Counter[str] = Counter()
        alive: set[str] = set()
        with open_writer(storage, name) as writer:
            for path in files:
                items = list(source.parse(path))
                for item in items:
                    kind = type(item).__name__ if isinstance(item, Reject | Deletion) else "record"
                    expected[kind] += 1
                    if isinstance(item, Deletion) or (isinstance(item, Reject) and item.withdraws is not None):
                        alive.discard(item.id or "")
                    elif not isinstance(item, Reject):
                        alive.add(item.id)
                write_items(items, tmp_path / "items")
                raw = FetchedFile(name=path.relative_to(samples).as_posix(), path=path)
                assert writer.apply(raw, tmp_path / "items").ledger.rows_in == len(items)
        snapshot = Snapshot(storage)
        applied = snapshot.files(name)
        assert [row["name"] for row in applied] == [path.relative_to(samples).as_posix() for path in files]
        rows_in = sum(row["ledger"]["in"] for row in applied)
        dropped = sum(sum(row["ledger"]["dropped"].values()) for row in applied)
        assert rows_in == expected.total() == sum(row["ledger"]["out"] for row in applied) + dropped
        assert snapshot.counts(name)["rejects"] == expected["Reject"]
        assert {record.id for record in snapshot.records(name, retracted=True)} == alive
        print(name, len(files), "files", dict(expected), snapshot.counts(name))
    assert list(verify(Snapshot(storage))) == []
