"""A version is read as it was made, byte for byte, whatever came later."""

from __future__ import annotations

import random
from pathlib import Path

import orjson
import pytest

from corpus.toys import apply, bring, deletion, document, events, exported, texts
from medllm_ops.corpus import maintenance
from medllm_ops.corpus import manifest as manifests
from medllm_ops.corpus import table as tables
from medllm_ops.corpus.manifest import CorpusError
from medllm_ops.corpus.reader import Snapshot, corpus_url, open_corpus
from medllm_ops.corpus.storage import Storage
from medllm_ops.corpus.writer import open_writer
from medllm_ops.records import Dialogue, Message, Preference

MESSAGES = (Message("user", "a question"), Message("assistant", "an answer"))


def test_an_export_in_every_byte(storage: Storage) -> None:
    dialogue = Dialogue(id="toy:d", source="toy", language="zh", messages=MESSAGES, title="问", version=3)
    preference = Preference(id="toy:p", source="toy", language="en", messages=MESSAGES, rejected_response="worse")
    bring(storage, "one", [document("x", "a\u2028b\n", url="u"), dialogue, preference, document("r", retracted=True)])
    messages = b'[{"role":"user","content":"a question"},{"role":"assistant","content":"an answer"}]'
    dialogues = (
        '{"id":"toy:d","title":"问","language":"zh","source":"toy","url":"","version":3,"messages":'.encode()
        + messages
        + b"}\n"
        + b'{"id":"toy:p","title":"","language":"en","source":"toy","url":"","version":1,"messages":'
        + messages
        + b',"rejected_response":"worse"}\n'
    )
    last = (
        '{"id":"toy:x","title":"title x","text":"a\u2028b\\n","language":"en","source":"toy","url":"u","version":1}\n'
    )
    retracted = (
        b'{"id":"toy:r","title":"title r","text":"text","language":"en","source":"toy","url":"","version":1,'
        b'"retracted":true}\n'
    )
    assert exported(storage) == dialogues + last.encode()
    assert exported(storage, retracted=True) == dialogues + retracted + last.encode()
    assert list(Snapshot(storage).records("toy")) == [dialogue, preference, document("x", "a\u2028b\n", url="u")]
    assert [record.id for record in Snapshot(storage).records("toy", retracted=True)][2] == "toy:r"


IDS = ["1", "10", "2", "Z", "a", "ä", "é", "ￏ", "😀", "10-2", "~"]


def test_it_is_sorted_by_the_bytes_of_the_ids(storage: Storage) -> None:
    ids = list(IDS)
    random.Random(7).shuffle(ids)
    bring(storage, "one", [document(name) for name in ids])
    assert list(texts(storage)) == sorted(IDS, key=str.encode)
    assert sorted(IDS, key=str.encode) != sorted(IDS, key=lambda name: name.encode("utf-16-be"))


def test_several_sources_are_merged(storage: Storage, tmp_path: Path) -> None:
    for source, ids in (("b", "bdf"), ("a", "ace")):
        with open_writer(storage, source) as writer:
            apply(writer, "one", [document(name, source=source) for name in ids])
    counts = Snapshot(storage).export(tmp_path / "all.jsonl")
    assert counts == {"a": 3, "b": 3}
    rows = [orjson.loads(line) for line in (tmp_path / "all.jsonl").read_bytes().splitlines()]
    assert [(row["id"][-1], row["source"]) for row in rows] == [*zip("abcdef", "ababab", strict=True)]
    assert list(texts(storage, sources=["b"])) == ["b", "d", "f"]
    assert Snapshot(storage).sources == ["a", "b"]
    with pytest.raises(CorpusError, match=r"version 2: there is nothing of c \(sources: a, b\)"):
        exported(storage, sources=["a", "c"])


def test_a_version_gives_the_same_bytes_for_ever(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_TAKE_ROWS", 7)
    chance = random.Random(3)
    before = []
    for number in range(8):
        ids = chance.sample(range(60), 25)
        gone = [deletion(n) for n in chance.sample(range(60), 5)]
        before.append(
            exported(storage, bring(storage, f"{number}", [*(document(n, f"{number}") for n in ids), *gone]).version)
        )
    assert len({*before}) == 8
    manifests.tag(storage, "early", 2)
    with open_writer(storage, "toy") as writer:
        writer.compact()
    assert exported(storage) == before[-1]
    assert [exported(storage, version) for version in range(1, 9)] == before
    maintenance.compact(storage, keep=3)
    assert exported(storage, "early") == before[1]
    assert [exported(storage, version) for version in (7, 8, 9)] == [before[6], before[7], before[7]]


def test_many_rows_with_deletions_about(storage: Storage) -> None:
    """More rows than are taken at a time, from several fragments with rows deleted in each."""
    bring(storage, "one", [document(n) for n in range(5000)])
    bring(storage, "two", [document(n, "changed") for n in range(0, 5000, 3)])
    assert texts(storage) == {
        str(n): "text" if n % 3 else "changed" for n in sorted(range(5000), key=lambda n: str(n).encode())
    }


def test_an_export_is_whole_or_absent(storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bring(storage, "one", [document(n) for n in range(10)])
    (tmp_path / "out.jsonl").write_text("old")
    monkeypatch.setattr(tables, "_TAKE_ROWS", 4)
    monkeypatch.setattr("medllm_ops.corpus.reader.to_json_line", lambda row: b"x" if row["id"] < "toy:7" else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Snapshot(storage).export(tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "out.jsonl"]


def test_an_empty_corpus(storage: Storage) -> None:
    snapshot = Snapshot(storage)
    assert (snapshot.version, snapshot.sources) == (0, [])
    assert exported(storage) == b""
    with pytest.raises(CorpusError, match="version 0: there is no record 'toy:1'"):
        snapshot.get("toy:1")


def test_a_source_that_has_only_rejects(storage: Storage) -> None:
    bring(storage, "one", [])
    assert exported(storage) == b""
    assert Snapshot(storage).counts("toy") == {"alive": 0, "retracted": 0, "deleted": 0, "rejects": 0, "files": 1}
    assert list(Snapshot(storage).records("toy")) == []


def test_a_record_and_its_history(storage: Storage) -> None:
    bring(storage, "one", [document(1, url="u", licence="l"), document(2)])
    bring(storage, "two", [document(1, "new", version=2, licence="l"), deletion(2)])
    source, row = Snapshot(storage).get("toy:1")
    assert source == "toy"
    assert (row["text"], row["version"], row["licence"], row["file"], row["deleted"]) == ("new", 2, "l", "two", None)
    assert Snapshot(storage, 1).get("toy:1")[1]["text"] == "text"
    assert [(row["event"], row["version"], row["file"]) for row in Snapshot(storage).history("toy:1")] == [
        ("added", 1, "one"),
        ("changed", 2, "two"),
    ]
    assert events(storage, 2) == ["added", "deleted"]
    assert len(Snapshot(storage, 1).history("toy:2")) == 1
    with pytest.raises(CorpusError, match="nothing is known of 'toy:3'"):
        Snapshot(storage).history("toy:3")


def test_versions_by_number_and_tag(storage: Storage) -> None:
    bring(storage, "one", [document(1)])
    bring(storage, "two", [document(2)])
    manifests.tag(storage, "first", 1)
    assert texts(storage, "first") == texts(storage, "1") == texts(storage, 1) == {"1": "text"}
    assert open_corpus(storage.url, "first").version == 1
    assert open_corpus(storage.url, "latest").version == open_corpus(storage.url).version == 2
    assert texts(storage, 0) == {}
    for version, said in (
        (3, "the corpus has no version 3"),
        ("-1", r"no tag '-1' \(tags: first\)"),
        ("²", "no tag '²'"),
        ("none", r"no tag 'none' \(tags: first\)"),
    ):
        with pytest.raises(CorpusError, match=said):
            Snapshot(storage, version)


def test_where_the_corpus_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDLLM_HOME", str(tmp_path))
    monkeypatch.delenv("MEDLLM_CORPUS", raising=False)
    assert corpus_url() == str(tmp_path / "corpus")
    monkeypatch.setenv("MEDLLM_CORPUS", "s3://a-bucket/corpus")
    assert corpus_url() == "s3://a-bucket/corpus"
    assert corpus_url("/elsewhere") == "/elsewhere"
