"""What a dataset holds follows from the corpus's history, and not from how often somebody built one."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corpus.toys import apply, deletion, document
from medllm_ops.corpus.storage import Storage, open_storage
from medllm_ops.corpus.writer import Writer, open_writer
from medllm_ops.curation.settings import CurationSettings
from medllm_ops.datasets.build import build_dataset
from medllm_ops.datasets.feed import curation_folder
from medllm_ops.datasets.store import Dataset, find_dataset
from medllm_ops.datasets.verify import verify
from medllm_ops.files import read_json_lines

SETTINGS = CurationSettings.model_validate(
    {
        "clean": {"enabled": False},
        "scrub": {"enabled": False},
        "split": {"val_share": 0.5},
        "licences": {"unknown": "keep"},
    }
)
SOURCES = ("toy", "other")

Item = tuple[str, int, int]
File = list[Item]
Refresh = tuple[str, list[File], bool]
"""Source, files, and whether somebody builds in between."""


FIRST: list[Refresh] = [
    (source, [[("document", 80 + one, 500 + 60 * number + 5 * one) for one in range(12)]], False)
    for number, source in enumerate(SOURCES)
]
"""Something that always stays."""


def text(family: int, variant: int) -> str:
    """Texts of a family are near duplicates of the next and the last variant, and not of those farther away."""
    words = [f"w{family}x{place}" for place in range(60)]
    for place in range(variant * 5):
        words[place] = f"v{family}x{place}x{variant if place >= variant * 5 - 5 else place // 5 + 1}"
    return " ".join(words)


def item(kind: str, number: int, shape: int) -> Any:
    if kind == "deletion":
        return deletion(number)
    return document(number, text(shape // 5, shape % 5), retracted=kind == "retraction")


FILES = st.lists(
    st.tuples(
        st.sampled_from(["document", "document", "document", "retraction", "deletion"]),
        st.integers(0, 9),
        st.integers(0, 24),
    ),
    min_size=1,
    max_size=8,
)
REFRESHES = st.lists(
    st.tuples(st.sampled_from(SOURCES), st.lists(FILES, min_size=1, max_size=2), st.booleans()), min_size=2, max_size=5
)


def refreshes(seed: int, count: int) -> Iterator[Refresh]:
    """A long history."""
    chance = random.Random(seed)
    for _ in range(count):
        files = [
            [
                (
                    chance.choice(["document"] * 8 + ["retraction", "deletion"]),
                    chance.randrange(60),
                    chance.randrange(200),
                )
                for _ in range(chance.randrange(1, 40))
            ]
            for _ in range(chance.randrange(1, 4))
        ]
        yield chance.choice(SOURCES), files, chance.random() < 0.5


def build(name: str, storage: Storage, **options: Any) -> Dataset:
    return build_dataset(name, corpus=storage.url, settings=SETTINGS, **options)


def sides(dataset: Dataset) -> dict[str, str]:
    return {row["id"]: side for side, _, path in dataset.files() for row in read_json_lines(path)}


def follow(storage: Storage, history: list[Refresh]) -> tuple[Dataset, dict[int, dict[str, str]]]:
    """Refresh, and build after each refresh, and within some of them; return the last, and the sides on the way."""
    seen: dict[int, dict[str, str]] = {}

    def look() -> None:
        if storage.keys("manifests/"):
            dataset = build("often", storage)
            seen[len(storage.keys("manifests/"))] = sides(dataset)

    for number, (source, files, between) in enumerate([*FIRST, *history]):
        with open_writer(storage, source) as writer:
            for place, file in enumerate(files):
                _apply(writer, source, f"file {number}.{place}", file)
                if between:
                    look()
        look()
    return build("often", storage), seen


def _apply(writer: Writer, source: str, name: str, file: File) -> None:
    # Ids of two sources never meet.
    shift = 100 * SOURCES.index(source)
    apply(writer, name, [item(kind, shift + number, shape) for kind, number, shape in file])


def compare(storage: Storage, history: list[Refresh]) -> None:
    often, seen = follow(storage, history)
    shutil.rmtree(curation_folder(storage))
    once = build("once", storage)
    assert once.manifest["content"] == often.manifest["content"]
    assert once.manifest["files"] == often.manifest["files"]
    assert list(verify(once)) == []
    last = sides(once)
    for before in seen.values():
        assert {name for name, side in before.items() if last.get(name, side) != side} == set()


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(history=REFRESHES)
def test_built_often_is_built_once(
    history: list[Refresh], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("history")
    monkeypatch.setenv("MEDLLM_HOME", str(folder / "home"))
    compare(open_storage(str(folder / "corpus")), history)


@pytest.mark.usefixtures("own_home")
def test_a_long_history_built_often_is_built_once(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "corpus"))
    compare(storage, list(refreshes(seed=1, count=12)))
    # It is a history in which something happens.
    once = find_dataset("once")
    assert {*sides(once).values()} == {"train", "val"}
    reasons = {row["reason"] for row in read_json_lines(once.directory / "removed.jsonl")}
    assert reasons >= {"retracted", "exact duplicate", "near duplicate", "val_conflict"}


class KilledError(Exception):
    """Stands for the end of a process."""


def kill(*_: Any, **__: Any) -> None:
    raise KilledError


@pytest.mark.usefixtures("own_home")
@pytest.mark.parametrize(
    "place",
    [
        "curation.state.state.CurationState.absorb",
        "datasets.feed._Feeder._keep",
        "datasets.feed.prepare",
        "datasets.build.write_dataset",
        "curation.write.write.write_index",
        "datasets.build.write_json",
        "datasets.build.link_to",
    ],
)
def test_a_build_that_broke_off_is_taken_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    storage = open_storage(str(tmp_path / "corpus"))
    history = [FIRST[0], *refreshes(seed=3, count=3)]
    for number, (source, files, _) in enumerate(history):
        with open_writer(storage, source) as writer:
            for part, file in enumerate(files):
                _apply(writer, source, f"file {number}.{part}", file)
        with monkeypatch.context() as patch:
            patch.setattr(f"medllm_ops.{place}", kill)
            with pytest.raises(KilledError):
                build("killed", storage)
    killed = build("killed", storage)
    assert list(verify(killed)) == []
    shutil.rmtree(curation_folder(storage))
    assert build("once", storage).manifest["content"] == killed.manifest["content"]
    assert [path.name for path in curation_folder(storage).iterdir() if path.name not in (".lock", "state")] == []


@pytest.mark.slow
@pytest.mark.usefixtures("own_home")
@pytest.mark.parametrize("seed", range(2, 12))
def test_many_long_histories_built_often_are_built_once(tmp_path: Path, seed: int) -> None:
    compare(open_storage(str(tmp_path / "corpus")), list(refreshes(seed=seed, count=20)))
