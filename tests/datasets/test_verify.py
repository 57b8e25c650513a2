from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lineage.frozen import freeze
from medllm_ops.curation.write.index import write_index
from medllm_ops.datasets.store import Dataset
from medllm_ops.datasets.verify import content_of, files_of, verify
from medllm_ops.files import read_json, write_json

pytestmark = pytest.mark.usefixtures("own_home")

REMOVED = [{"id": "toy:9", "step": "read", "reason": "retracted", "source": "toy"}]


def sound() -> Dataset:
    return freeze(
        "med",
        1,
        {"toy": {"toy:1": "a", "toy:2#1": "b", "toy:2#2": "c"}, "other": {"other:1": "d"}},
        {"toy": {"toy:3": "e"}, "other": {"other:2": "f"}},
        removed=REMOVED,
        records={"toy:1", "toy:2", "toy:3", "other:1", "other:2"},
    )


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def sign(folder: Path) -> None:
    """Let the hashes be those of the files, so that only other checks can tell."""
    manifest = read_json(folder / "manifest.json")
    manifest["files"] = files_of(folder)
    manifest["content"] = content_of(manifest["files"])
    write_json(folder / "manifest.json", manifest)


def test_a_sound_dataset_has_nothing_wrong() -> None:
    assert list(verify(sound())) == []


def test_without_an_index_too() -> None:
    dataset = freeze("med", 1, {"toy": {"toy:1#1": "a"}}, {"toy": {"toy:3": "e"}}, index=False)
    assert list(verify(dataset)) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: edit(folder / "train" / "toy.jsonl", '"a"', '"b"'), "train/toy.jsonl was changed"),
        (lambda folder: (folder / "ids" / "val" / "toy.npy").unlink(), "ids/val/toy.npy is missing"),
        (lambda folder: (folder / "val" / "new.jsonl").write_text(""), "val/new.jsonl does not belong here"),
        (lambda folder: edit(folder / "manifest.json", '"train/toy', '"train/boy'), "hash of all files"),
        (lambda folder: (folder / "ledger.json").unlink(), "ledger"),
    ],
)
def test_files_that_are_not_as_they_were(change: Callable[[Path], None], said: str) -> None:
    dataset = sound()
    change(dataset.directory)
    assert any(said in sentence for sentence in verify(dataset)), list(verify(dataset))


def forget_the_ledger(folder: Path) -> None:
    write_json(folder / "manifest.json", {**read_json(folder / "manifest.json"), "ledger": []})


def duplicate(folder: Path) -> None:
    line = (folder / "train" / "toy.jsonl").read_bytes().splitlines(keepends=True)[0]
    with (folder / "val" / "toy.jsonl").open("ab") as file:
        file.write(line)
    manifest = read_json(folder / "manifest.json")
    manifest["sources"]["toy"]["val"] += 1
    write_json(folder / "manifest.json", manifest)
    write_index(folder, lambda ids: [one in ("toy:2",) for one in ids])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: edit(folder / "ledger.json", '"in": 5', '"in": 6'), "6 in is not 4 out and 1 dropped"),
        (lambda folder: edit(folder / "ledger.json", '"in": 4', '"in": 3'), "3 came in, but 4 went out of read"),
        (lambda folder: (folder / "removed.jsonl").write_text(""), "removed.jsonl has 0 lines, but 1 rows were"),
        (lambda folder: edit(folder / "train" / "toy.jsonl", "toy:1", "toy:7"), "the row toy:7 is not in the index"),
        (lambda folder: edit(folder / "train" / "toy.jsonl", "toy:1", "toy:7"), "names 1 records that have no row"),
        (lambda folder: (folder / "val" / "toy.jsonl").write_text(""), "has 0 rows, the manifest says 1"),
        (duplicate, "toy:1 stands on both sides"),
        (duplicate, "the manifest says 5 rows, the ledger 4"),
        (forget_the_ledger, "ledger.json is not the ledger of the manifest"),
    ],
)
def test_what_is_wrong_although_the_hashes_are_right(change: Callable[[Path], None], said: str) -> None:
    dataset = sound()
    change(dataset.directory)
    sign(dataset.directory)
    assert any(said in sentence for sentence in verify(dataset)), list(verify(dataset))
