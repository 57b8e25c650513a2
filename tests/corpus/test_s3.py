"""The whole corpus on an S3 server: written, read, read at an old version, staged, compacted, verified."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from corpus.toys import apply, assert_sound, bring, deletion, document, events, exported, reject, texts
from medllm_ops.corpus import manifest as manifests
from medllm_ops.corpus.lease import LeaseError
from medllm_ops.corpus.maintenance import compact
from medllm_ops.corpus.manifest import CorpusError
from medllm_ops.corpus.reader import Snapshot
from medllm_ops.corpus.storage import Storage, open_storage
from medllm_ops.corpus.writer import open_writer


def test_a_life_on_s3(s3: Storage, storage: Storage) -> None:
    """The same history in a bucket and in a folder: the same bytes in every version."""
    for place in (s3, storage):
        bring(place, "one", [document(n) for n in range(100)], generation="25", watermark={"day": 1})
        bring(place, "two", [document(1, "changed"), deletion(2), reject(3, withdraws=1)], generation="25")
        bring(place, "w", [document(200), document(201)], whole=True, generation="25")
        bring(place, "w", [document(201)], whole=True, generation="25")
        bring(place, "26/1", [document(n) for n in range(50)], generation="26")
        assert texts(place, 5) == texts(place, 4)
        bring(place, "26/2", [document(60)], generation="26", generation_complete=True)
        manifests.tag(place, "first", 1)
    for version in range(1, 7):
        assert exported(s3, version, retracted=True) == exported(storage, version, retracted=True)
    assert len(texts(s3)) == 51
    assert events(s3, 2) == events(storage, 2) == ["added", "deleted", "restored"]
    assert Snapshot(s3).get("toy:99")[1]["deleted"] == "not in 26"
    before = exported(s3, "first"), exported(s3)
    assert compact(s3, keep=1) > 0
    assert (exported(s3, "first"), exported(s3)) == before
    assert_sound(s3)
    with pytest.raises(CorpusError, match="has no version 3"):
        Snapshot(s3, 3)


def test_a_killed_writers_work_is_undone_on_s3(s3: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(manifests, "publish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            bring(s3, "killed", [document(1, "killed"), document(2)])
    bring(s3, "one", [document(1)])
    with monkeypatch.context() as patch:
        patch.setattr(manifests, "publish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            bring(s3, "killed", [document(1, "killed"), deletion(1), document(3)])
    bring(s3, "two", [document(4)])
    assert texts(s3) == {"1": "text", "4": "text"}
    assert_sound(s3)


def test_a_writer_of_another_host_is_seen(s3: Storage, s3_url: str) -> None:
    with open_writer(s3, "toy"), pytest.raises(LeaseError, match="is being written"):
        bring(open_storage(s3_url), "one", [document(1)])


APPEND = """
import sys
from medllm_ops.corpus.manifest import CorpusError
from medllm_ops.corpus.storage import open_storage
from medllm_ops.corpus.table import Table
import pyarrow as pa
schema = pa.schema([pa.field("id", pa.string())])
storage = open_storage(sys.argv[1])
version, alone = 1, 0
while version < 25:
    table = Table(storage, "t", schema, version)
    try:
        table.append([pa.RecordBatch.from_pylist([{"id": sys.argv[2]}], schema)])
        alone += 1
    except CorpusError:
        pass
    version = table._open(None).version
print(alone)
"""


@pytest.mark.parametrize("place", ["storage", "s3"])
def test_two_processes_never_make_the_same_version(request: pytest.FixtureRequest, place: str, tmp_path: Path) -> None:
    """Each version of a table is one writer's, and no row of a finished write is lost."""
    import pyarrow as pa

    from medllm_ops.corpus.table import Table

    storage: Storage = request.getfixturevalue(place)
    schema = pa.schema([pa.field("id", pa.string())])
    Table(storage, "t", schema, 0).append([pa.RecordBatch.from_pylist([{"id": "first"}], schema)])
    command = [sys.executable, "-c", APPEND, storage.url]
    processes = [subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True) for name in "ab"]
    alone = [int(process.communicate()[0]) for process in processes]
    latest = Table(storage, "t", schema, 1)._open(None)
    assert latest.count_rows() == latest.version >= 25
    # Each says of its own write whether it was alone: no more than there are versions.
    assert 0 < sum(alone) <= latest.version - 1


def test_credentials_with_a_token_reach_the_engine(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a-token")
    storage = open_storage(s3_url)
    assert "aws_access_key_id" not in storage.table("x")[1]
    with open_writer(storage, "toy") as writer:
        apply(writer, "one", [document(1)])
    assert texts(storage) == {"1": "text"}
