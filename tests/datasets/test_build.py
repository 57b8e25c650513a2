"""From the corpus to frozen datasets."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from corpus.toys import apply, bring, deletion, document
from medllm_ops.corpus import manifest as manifests
from medllm_ops.corpus.maintenance import compact
from medllm_ops.corpus.storage import Storage, open_storage
from medllm_ops.corpus.writer import open_writer
from medllm_ops.curation.curate import curate
from medllm_ops.curation.settings import CurationSettings
from medllm_ops.curation.write.index import hashes_of, line_ids
from medllm_ops.datasets.build import build_dataset
from medllm_ops.datasets.feed import curation_folder
from medllm_ops.datasets.ids import read_index, records_of
from medllm_ops.datasets.store import SIDES, Dataset, dataset_of, of_folder, versions
from medllm_ops.datasets.verify import verify
from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json, read_json_lines, write_json_lines
from medllm_ops.records import record_to_row

SETTINGS: dict[str, Any] = {
    "clean": {"enabled": False},
    "scrub": {"enabled": False},
    "split": {"val_share": 0.5},
    "licences": {"unknown": "keep"},
}


def settings(**changes: Any) -> CurationSettings:
    return CurationSettings.model_validate({**SETTINGS, **changes})


def text(number: int, words: int = 30) -> str:
    """A text that is like no other's."""
    return " ".join(f"w{number}x{place * 7 % (11 + number)}" for place in range(words))


def records(numbers: Iterable[int], **more: Any) -> list[Any]:
    return [document(number, text(number), **more) for number in numbers]


@pytest.fixture
def storage(own_home: Path) -> Storage:
    """The corpus, where it lies by default."""
    return open_storage(str(own_home / "corpus"))


def build(**options: Any) -> Dataset:
    return build_dataset("med", **({"settings": settings()} | options))


def rows(dataset: Dataset) -> dict[str, tuple[str, str]]:
    """Side and text of each record."""
    return {
        row["id"]: (side, row["messages"][-1]["content"])
        for side, _, path in dataset.files()
        for row in read_json_lines(path)
    }


def ids(dataset: Dataset) -> set[str]:
    return {name for _, _, path in dataset.files() for name, _ in line_ids(path)}


def test_a_dataset_of_a_corpus(storage: Storage) -> None:
    bring(storage, "file 1", [*records(range(12)), document(99, text(99), retracted=True)])
    dataset = build()
    assert (dataset.name, dataset.version) == ("med", 1)
    assert dataset.directory == dataset_of("med") == dataset_of("med", 1)
    assert ids(dataset) == {f"toy:{number}" for number in range(12)}
    assert list(verify(dataset)) == []
    manifest = dataset.manifest
    assert manifest["corpus"] == {
        "url": storage.url,
        "version": 1,
        "sources": {"toy": {"version": 1, "facts": 14}},
        "unfinished": {},
    }
    assert manifest["history"] == [[1, "toy"]]
    removed = list(read_json_lines(dataset.directory / "removed.jsonl"))
    assert [(row["id"], row["reason"]) for row in removed] == [("toy:99", "retracted")]


def test_the_same_again_is_the_same_version(storage: Storage) -> None:
    bring(storage, "file 1", records(range(12)))
    first = build()
    before = (first.directory / "manifest.json").stat().st_mtime_ns
    assert build() == first
    compact(storage)
    assert build() == first
    assert build(workers=2) == first
    assert (first.directory / "manifest.json").stat().st_mtime_ns == before
    assert versions("med") == [1]
    bring(storage, "file 2", records(range(12, 14)))
    second = build()
    assert second.version == 2
    assert build(version=1).version == 1
    assert dataset_of("med") == first.directory
    assert build() == second
    assert dataset_of("med") == second.directory
    assert build(settings=settings(seed=7)).version == 3


def test_what_would_have_the_same_content_is_the_same_version(storage: Storage) -> None:
    bring(storage, "file 1", records(range(12)))
    first = build()
    bring(storage, "file 2", [document(50, text(50))])
    bring(storage, "file 3", [deletion(50)])
    assert build() == first
    assert sorted(path.name for path in first.directory.parent.iterdir()) == [".lock", "1", "latest"]


def test_corrections_deletions_and_retractions_arrive(storage: Storage) -> None:
    bring(storage, "file 1", records(range(20)))
    before = rows(build())
    bring(
        storage,
        "file 2",
        [deletion(1), document(2, text(2), retracted=True), document(3, text(333)), *records(range(20, 24))],
    )
    dataset = build()
    after = rows(dataset)
    assert {"toy:1", "toy:2"} & set(after) == set()
    assert after["toy:3"] == (before["toy:3"][0], text(333))
    assert set(after) >= {f"toy:{number}" for number in range(20, 24)}
    same = set(before) - {"toy:1", "toy:2", "toy:3"}
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert list(verify(dataset)) == []


def test_only_some_sources(storage: Storage) -> None:
    bring(storage, "file 1", records(range(12)))
    with open_writer(storage, "other") as writer:
        apply(writer, "file 1", [document(number, text(number)) for number in range(8, 30)])
    dataset = build(sources=["other"])
    assert {path.stem for _, _, path in dataset.files()} == {"other"}
    assert list(verify(dataset)) == []
    assert set(dataset.manifest["sources"]) == {"other"}
    assert dataset.manifest["corpus"]["sources"].keys() == {"other", "toy"}
    with pytest.raises(MedllmError, match=r"nothing of pubmed \(sources: other, toy\)"):
        build(sources=["pubmed", "other"])


def test_licences_stop_a_build_unless_they_are_allowed_by_name(storage: Storage) -> None:
    bring(storage, "file 1", [*records(range(6)), *records(range(6, 12), licence="CC-BY-NC-4.0")])
    with pytest.raises(MedllmError, match=r"toy has 6 rows .*licences\.unknown .*licences\.allow"):
        build(settings=settings(licences={}))
    with pytest.raises(MedllmError, match=r"toy has 6 rows under CC-BY-NC-4\.0.* licences\.allow"):
        build(settings=settings(licences={"unknown": "keep", "deny": ["*-nc-*"]}))
    assert versions("med") == []
    assert not list(dataset_folder().glob("[0-9]*"))
    dataset = build(settings=settings(licences={"deny": ["*-nc-*"]}), allow_licences=["toy"])
    assert dataset.manifest["sources"]["toy"]["licences"] == {"": 6, "CC-BY-NC-4.0": 6}
    assert dataset.manifest["settings"]["licences"]["allow"] == ["toy"]


def dataset_folder() -> Path:
    return Path(os.environ["MEDLLM_HOME"]) / "datasets" / "med"


def test_a_row_without_a_licence_has_that_of_the_catalogue(storage: Storage) -> None:
    with open_writer(storage, "disc_medllm") as writer:
        apply(writer, "file 1", [*records(range(6)), *records(range(6, 12), licence="MIT")])
    dataset = build(settings=settings(licences={}))
    assert dataset.manifest["sources"]["disc_medllm"]["licences"] == {"Apache-2.0": 6, "MIT": 6}
    assert "DISC-MedLLM" in dataset.manifest["duties"]["disc_medllm"]["credit"]
    with pytest.raises(MedllmError, match=r"disc_medllm has 6 rows under Apache-2\.0"):
        build(settings=settings(licences={"deny": ["apache-*"]}))


def test_a_refresh_that_goes_on_is_left_for_later(storage: Storage) -> None:
    bring(storage, "file 1", records(range(12)))
    with open_writer(storage, "toy") as writer:
        apply(writer, "file 2", records(range(12, 15)))
        dataset = build()
        assert ids(dataset) == {f"toy:{number}" for number in range(12)}
        assert dataset.manifest["corpus"]["unfinished"] == {"toy": 1}
        exact = build(version=2)
        assert ids(exact) == {f"toy:{number}" for number in range(15)}
        assert exact.manifest["history"] == [[1, "toy"], [2, "toy"]]
        apply(writer, "file 3", records(range(15, 18)))
    whole = build()
    assert ids(whole) == {f"toy:{number}" for number in range(18)}
    assert whole.manifest["history"] == [[1, "toy"], [3, "toy"]]
    assert [path.name for path in curation_folder(storage).glob(".replay*")] == []


def test_an_older_version_is_replayed_and_disturbs_nothing(storage: Storage) -> None:
    for number in range(4):
        bring(storage, f"file {number}", records(range(number * 6, number * 6 + 6)))
    newest = rows(build())
    old = build(version=2, settings=settings(seed=1))
    assert ids(old) == {f"toy:{number}" for number in range(12)}
    assert {name: newest[name] for name in rows(old)} == rows(old)
    bring(storage, "file 9", records(range(24, 26)))
    again = rows(build())
    assert {name: again[name] for name in newest} == newest


def test_other_settings_of_rows_take_all_in_anew_and_move_none(storage: Storage) -> None:
    bring(storage, "file 1", records(range(10)))
    before = rows(build())
    bring(storage, "file 2", [*records(range(10, 14)), deletion(3)])
    dataset = build(settings=settings(clean={"enabled": True}))
    after = rows(dataset)
    assert {name for name in after if name in before and after[name][0] != before[name][0]} == set()
    assert "toy:3" not in after
    assert dataset.manifest["history"] == [[1, "toy"], [1, "toy"], [2, "toy"]]
    assert list(verify(dataset)) == []


def test_what_is_taken_in_anew_may_have_been_cleaned_away(storage: Storage) -> None:
    bring(storage, "file 1", records(range(10)))
    build()
    bring(storage, "file 2", records(range(10, 14)))
    bring(storage, "file 3", [deletion(3)])
    compact(storage, keep=1)
    dataset = build(settings=settings(seed=3, clean={"enabled": True}))
    assert "toy:3" not in ids(dataset)
    assert list(verify(dataset)) == []


def test_versions_that_were_cleaned_away_are_caught_up_with(storage: Storage) -> None:
    bring(storage, "file 1", records(range(10)))
    before = rows(build())
    bring(storage, "file 2", [*records(range(10, 14)), deletion(1)])
    bring(storage, "file 3", [deletion(2)])
    compact(storage, keep=1)
    after = rows(build())
    assert set(after) == {f"toy:{number}" for number in (0, *range(3, 14))}
    assert all(after[name] == before[name] for name in after if name in before)


def test_a_state_of_another_corpus_is_refused(storage: Storage, own_home: Path) -> None:
    bring(storage, "file 1", records(range(10)))
    bring(storage, "file 2", records(range(10, 14)))
    build()
    other = open_storage(str(own_home / "other"))
    bring(other, "file 1", records(range(5)))
    for _ in range(3):
        bring(other, f"file {_}", [])
    curation_folder(other).parent.mkdir(exist_ok=True)
    curation_folder(storage).rename(curation_folder(other))
    with pytest.raises(MedllmError, match="is the state of another corpus than"):
        build(corpus=other.url)


def test_an_empty_corpus_and_a_missing_evaluation_set(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(MedllmError, match="has no records"):
        build()
    bring(storage, "file 1", records(range(10)))
    with pytest.raises(MedllmError, match="no such file"):
        build(evalsets=[tmp_path / "missing.jsonl"])
    with pytest.raises(MedllmError, match="dataset name"):
        build_dataset("a b")


def test_a_first_refresh_that_goes_on_and_rows_that_are_all_dropped(storage: Storage) -> None:
    with open_writer(storage, "toy") as writer:
        apply(writer, "file 1", records(range(3), retracted=True))
        with pytest.raises(MedllmError, match="no records; the refresh of toy has not ended yet"):
            build()
    with pytest.raises(MedllmError, match=r"no source is left with rows on both sides .*read: retracted 3"):
        build()
    assert versions("med") == []


def test_what_curate_made_of_files_is_a_dataset_too(own_home: Path) -> None:
    lines = own_home / "rows.jsonl"
    books = [document(f"book#{number}", text(number)) for number in range(12)]
    write_json_lines(lines, [record_to_row(record) for record in books])
    curate([lines], own_home / "curated", settings())
    dataset = of_folder(own_home / "curated")
    assert list(verify(dataset)) == []
    assert records_of(dataset) == {side: sum(1 for at, _ in rows(dataset).values() if at == side) for side in SIDES}
    with (dataset.directory / "train" / "toy.jsonl").open("ab") as file:
        file.write(b'{"id":"toy:99","messages":[]}\n')
    found = list(verify(dataset))
    assert "train/toy.jsonl is not the file that the manifest says" in found
    assert "train/toy.jsonl: the row toy:99 is not in the index" in found


def test_two_builds_at_once_wait_for_each_other(storage: Storage) -> None:
    from filelock import FileLock

    bring(storage, "file 1", records(range(10)))
    folder = curation_folder(storage)
    folder.mkdir()
    with FileLock(folder / ".lock"), pytest.raises(MedllmError, match="another build uses"):
        build(wait=0.1)
    with FileLock(dataset_folder() / ".lock"), pytest.raises(MedllmError, match="another build of dataset med"):
        build(wait=0.1)
    assert build().version == 1


def test_the_index_knows_records_whose_own_ids_look_like_those_of_chunks(storage: Storage) -> None:
    bring(storage, "file 1", [document(f"book#{number}", text(number)) for number in range(10)])
    dataset = build()
    wanted = hashes_of(["toy:book#3", "toy:book", "toy:book#10"])
    found = [index.has(wanted).tolist() for index in read_index(dataset)]
    assert [any(side) for side in zip(*found, strict=True)] == [True, False, False]


def test_the_state_of_a_bucket_lies_in_the_home_folder(own_home: Path) -> None:
    class Bucket:
        url = "s3://bucket/corpus"

    assert curation_folder(Bucket()).parent == own_home / "curation"  # type: ignore[arg-type]


def test_versions_of_manifests_stay_readable(storage: Storage) -> None:
    bring(storage, "file 1", records(range(10)))
    build()
    assert manifests.versions(storage) == [1]
    assert read_json(curation_folder(storage) / "state" / "taken.json")["sources"] == {
        "toy": {"version": 1, "facts": 10}
    }
