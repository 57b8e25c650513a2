"""A version is published by one object, in one row of numbers, whoever publishes at the same moment."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from medllm_ops.corpus import manifest as manifests
from medllm_ops.corpus.manifest import CorpusError, Manifest, SourceState
from medllm_ops.corpus.storage import Storage


def add(state: SourceState) -> SourceState:
    return state.model_copy(update={"files": state.files + 1})


def test_many_publish_at_once_and_none_is_lost(any_storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "_ATTEMPTS", 1000)
    sources = [f"source{n}" for n in range(4)] * 5
    with ThreadPoolExecutor(4) as pool:
        published = list(pool.map(lambda source: manifests.publish(any_storage, source, add), sources))
    assert sorted(manifest.version for manifest in published) == manifests.versions(any_storage) == [*range(1, 21)]
    assert {state.files for state in manifests.read(any_storage).sources.values()} == {5}
    for version in range(1, 21):
        states = manifests.read(any_storage, version).sources.values()
        assert sum(state.files for state in states) == version


def test_it_gives_up_in_the_end(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "create", lambda key, data: False)
    with pytest.raises(CorpusError, match="other writers were faster 20 times; try again"):
        manifests.publish(storage, "x", add)
    assert manifests.versions(storage) == []


def test_a_change_may_refuse(storage: Storage) -> None:
    manifests.publish(storage, "x", add)
    with pytest.raises(ZeroDivisionError):
        manifests.publish(storage, "x", lambda state: add(state) if state.files > 1 else 1 / 0)  # type: ignore[arg-type,return-value]
    assert manifests.versions(storage) == [1]


def test_a_damaged_one_is_said(storage: Storage) -> None:
    manifests.publish(storage, "x", add)
    storage.write("manifests/000000000001.json", b'{"version": 1, "sour')
    with pytest.raises(CorpusError, match=r"manifests/000000000001.json is damaged"):
        manifests.read(storage)


def test_tags(any_storage: Storage) -> None:
    for _ in range(3):
        manifests.publish(any_storage, "x", add)
    manifests.tag(any_storage, "a", 1)
    manifests.tag(any_storage, "b.2-c_d", 2)
    manifests.tag(any_storage, "a", 1)
    assert manifests.tags(any_storage) == {"a": 1, "b.2-c_d": 2}
    with pytest.raises(CorpusError, match="the tag 'a' is on version 1; move it with --move"):
        manifests.tag(any_storage, "a", 2)
    manifests.tag(any_storage, "a", 3, move=True)
    assert manifests.read(any_storage, "a").version == 3
    with pytest.raises(CorpusError, match="has no version 9"):
        manifests.tag(any_storage, "c", 9)


def test_a_month_is_a_tag(storage: Storage) -> None:
    manifests.publish(storage, "x", add)
    manifests.tag(storage, "2026-10", 1)
    assert manifests.read(storage, "2026-10").version == 1


@pytest.mark.parametrize("name", ["", "1", "2026", "latest", ".a", "-a", "a/b", "../a", "a b", "ä", "a" * 65, "a\n"])
def test_what_is_no_tag(storage: Storage, name: str) -> None:
    with pytest.raises(CorpusError, match="a tag is up to 64 letters"):
        manifests.tag(storage, name, 0)


def test_a_version_forgotten(storage: Storage) -> None:
    for _ in range(3):
        manifests.publish(storage, "x", add)
    manifests.delete(storage, 1)
    assert manifests.versions(storage) == [2, 3]
    assert manifests.read(storage).version == 3
    assert manifests.read(storage).source("unknown") == SourceState()
    assert Manifest().version == 0
