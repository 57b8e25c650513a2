import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.datasets.store import Dataset
from medllm_ops.datasets.verify import content_of, files_of, verify
from medllm_ops.errors import MedllmError
from medllm_ops.files import file_hash, read_json
from medllm_ops.report.data.build import build_data_report, data_report
from medllm_ops.report.data.model import DataReport

Change = Callable[[str, Callable[[Any], Any]], None]
Make = Callable[..., Path]

KEYS = {
    "dataset",
    "level",
    "findings",
    "read",
    "train",
    "val",
    "removed",
    "sources",
    "accounts",
    "reasons",
    "kept",
    "lengths",
    "languages",
    "scripts",
    "clusters",
    "marks",
    "review",
    "decontamination",
    "licences",
    "comparison",
    "files",
    "settings",
    "manifest",
    "incomplete",
}


def bytes_of(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): file_hash(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "report" not in path.relative_to(folder).parts
    }


def test_the_report_is_beside_the_dataset_and_changes_none_of_its_bytes(dataset: Path) -> None:
    before = bytes_of(dataset)
    page = build_data_report(dataset)
    assert page == dataset / "report" / "data_report.html"
    assert sorted(path.name for path in page.parent.iterdir()) == ["data_report.html", "data_report.json"]
    assert bytes_of(dataset) == before
    made = bytes_of(page.parent)
    build_data_report(dataset)
    assert bytes_of(page.parent) == made


def test_a_frozen_dataset_is_as_it_was_built_with_its_report_too(dataset: Path, change: Change) -> None:
    files = files_of(dataset)
    change("manifest.json", lambda row: row.update(files=files, content=content_of(files)))
    frozen = file_hash(dataset / "manifest.json")
    build_data_report(dataset)
    assert (dataset / "report").is_dir()
    assert list(verify(Dataset(dataset))) == []
    assert files_of(dataset) == files
    assert file_hash(dataset / "manifest.json") == frozen
    assert "files" not in data_report(dataset).manifest


def test_data_report_json_has_the_keys_that_other_programs_rely_on(dataset: Path) -> None:
    page = build_data_report(dataset)
    path = page.with_name("data_report.json")
    row = read_json(path)
    assert row.keys() == KEYS
    assert row["level"] == "look"
    assert (row["read"], row["removed"], row["train"] + row["val"]) == (1438, 258, 1180)
    step = row["sources"][2]["steps"][0]
    told = {"step": "read", "source": "pubmed", "in": 478, "out": 473, "dropped": {"not JSON": 2, "retracted": 3}}
    assert step.items() >= told.items()
    assert row["findings"][0].keys() == {"level", "check", "sentence", "section"}
    assert DataReport.read_file(path) == data_report(dataset)


def test_every_reason_is_told_with_its_rows_and_some_of_them(dataset: Path) -> None:
    report = data_report(dataset)
    told = {(each.step, each.reason): each for each in report.reasons}
    assert {key: each.rows for key, each in told.items()} == {
        ("read", "retracted"): 3,
        ("read", "not JSON"): 2,
        ("clean", "too short"): 21,
        ("clean", "not enough Han"): 9,
        ("scrub", "mostly personal data"): 2,
        ("exact dedup", "exact duplicate"): 55,
        ("near dedup", "near duplicate"): 58,
        ("decontaminate", "overlap with an evaluation set"): 4,
        ("split", "val_conflict"): 1,
        ("sample", "not drawn"): 100,
        ("chunk", "dialogue too long"): 3,
    }
    assert [each.step for each in report.reasons][:3] == ["read", "read", "clean"]
    assert all(each.samples for each in report.reasons)
    assert told["clean", "too short"].samples[0].excerpt == "A dropped text, number 0, of ⟨NAME⟩."
    # The steps that see only ids are told by what removed.jsonl has of them.
    near = told["near dedup", "near duplicate"].samples
    assert len(near) == 5
    assert all(sample.kept for sample in near)


def test_figures_are_taken_over(dataset: Path) -> None:
    report = data_report(dataset)
    assert [cluster.size for cluster in report.clusters] == [5, 2]
    first = report.clusters[0].members
    assert [(row.id, row.kept, row.similarity) for row in first[:2]] == [
        ("tcm_books:5", True, 1.0),
        ("deepctrl:5", False, 0.81),
    ]
    assert report.decontamination.evalsets[0].items_found == 2
    assert report.decontamination.overlaps[0].source == "pubmed"
    assert {(mark.step, mark.source, mark.rule): mark.count for mark in report.marks}["scrub", "pubmed", "EMAIL"] == 4
    assert {each.source: each.rows for each in report.licences}["deepctrl"] == {"": 220}
    by_side = {(each.source, each.side): sum(each.rows) for each in report.lengths}
    assert by_side["pubmed", "train"] + by_side["pubmed", "val"] == 400
    assert report.manifest["seed"] == 42
    assert report.settings["split"] == {"val_share": 0.1}
    assert report.incomplete == []


def test_what_the_text_is_made_of_is_read_from_the_text(dataset: Path) -> None:
    scripts = {(each.source, each.side): each for each in data_report(dataset).scripts}
    chinese = scripts["tcm_books", "train"].characters
    assert chinese["Han"] > 0.7 * sum(chinese.values())
    assert chinese["Latin"] == 0
    english = scripts["pubmed", "train"].characters
    assert english["Latin"] + english["white space"] == sum(english.values())


@pytest.mark.parametrize(
    "name",
    [
        "ledger.json",
        "removed.jsonl",
        *(f"data/{name}.json" for name in ("lengths", "marks", "decontamination")),
        *(f"data/{name}.jsonl" for name in ("review", "samples", "clusters", "overlaps")),
    ],
)
def test_a_file_that_is_missing_is_told(dataset: Path, name: str) -> None:
    (dataset / name).unlink()
    build_data_report(dataset)
    report = data_report(dataset)
    assert report.incomplete == [name]
    assert f"{name} is missing: what would be told from there is left out." in {
        finding.sentence for finding in report.findings
    }


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("manifest.json", lambda row: row["sources"]["pubmed"].pop("train")),
        ("ledger.json", lambda rows: rows[0].pop("in")),
        ("ledger.json", lambda rows: rows[0].update(dropped={"a": -1})),
        ("removed.jsonl", lambda rows: rows[0].pop("reason")),
        ("data/lengths.json", lambda row: row["pubmed"].update(train={"many": 1})),
        ("data/clusters.jsonl", lambda rows: rows[0].pop("size")),
        ("data/marks.json", lambda row: row.update(clean=3)),
        ("data/samples.jsonl", lambda rows: rows[0].pop("id")),
        ("data/decontamination.json", lambda row: row.update(evalsets=[{}])),
    ],
)
def test_a_file_that_is_not_what_curate_writes_is_named(
    dataset: Path, change: Change, name: str, how: Callable[[Any], Any]
) -> None:
    change(name, how)
    with pytest.raises(MedllmError, match=rf"{name} is not what curate writes \(.*\): make the dataset again$"):
        data_report(dataset)
    assert not (dataset / "report").exists()


def test_a_line_that_is_no_row_is_named(dataset: Path) -> None:
    with (dataset / "val" / "docx.jsonl").open("wb"):
        pass
    with (dataset / "val" / "alpaca.jsonl").open("ab") as file:
        file.write(b'{"messages":[]}\n')
    with pytest.raises(MedllmError, match=r"val/alpaca\.jsonl, line 29 is no row"):
        data_report(dataset)


@pytest.mark.parametrize("missing", ["nothing", "manifest"])
def test_a_folder_that_is_no_dataset_is_refused(tmp_path: Path, dataset: Path, missing: str) -> None:
    folder = tmp_path / "none"
    if missing == "manifest":
        shutil.copytree(dataset, folder)
        (folder / "manifest.json").unlink()
    with pytest.raises(MedllmError, match=r"is no dataset: it has no manifest\.json"):
        build_data_report(folder)
    with pytest.raises(MedllmError, match="is no dataset"):
        build_data_report(dataset, folder)


def test_an_empty_dataset_has_a_report(make: Make) -> None:
    empty = make("empty", {})
    report = data_report(empty, empty)
    assert (report.read, report.train, report.val) == (0, 0, 0)
    assert [finding.sentence for finding in report.findings if finding.level == "wrong"] == [
        "The dataset is empty: no row was written."
    ]
    build_data_report(empty, empty)
