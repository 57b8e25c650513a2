from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.files import file_hash, read_json, read_json_lines, write_json, write_json_lines
from medllm_ops.report.data.build import build_data_report, data_report
from medllm_ops.report.data.changes import id_hash
from medllm_ops.report.data.contents import read_contents
from medllm_ops.report.data.dataset import DatasetFiles
from medllm_ops.report.data.model import Comparison

Change = Callable[[str, Callable[[Any], Any]], None]
Make = Callable[..., Path]


def compared(folder: Path, previous: Path) -> Comparison:
    comparison = data_report(folder, previous).comparison
    assert comparison is not None
    return comparison


def told(folder: Path, previous: Path, level: str) -> list[str]:
    findings = data_report(folder, previous).findings
    return [each.sentence for each in findings if each.level == level and each.section == "drift"]


def rewrite(folder: Path, side: str, source: str, rows: list[Any]) -> None:
    """Change a file, and tell the manifest."""
    path = folder / side / f"{source}.jsonl"
    write_json_lines(path, rows)
    manifest = read_json(folder / "manifest.json")
    manifest["sources"][source][side] = len(rows)
    manifest["sources"][source]["hashes"][side] = file_hash(path)
    write_json(folder / "manifest.json", manifest)


def test_a_dataset_beside_itself_has_not_changed(dataset: Path) -> None:
    comparison = compared(dataset, dataset)
    assert all(each.before == each.now == each.same for each in comparison.rows)
    assert {drift.psi for drift in comparison.drifts} == {0}
    assert {(drift.what, drift.source) for drift in comparison.drifts} >= {
        ("sources", None),
        ("languages", None),
        ("lengths", None),
        ("characters", None),
        ("lengths", "pubmed"),
        ("characters", "deepctrl"),
    }
    assert (comparison.changed, comparison.new, comparison.gone, comparison.settings) == ([], [], [], [])
    assert told(dataset, dataset, "look") == []


def test_rows_are_new_changed_gone_or_the_same(dataset: Path, make: Make) -> None:
    later = make("later", changed=5, shift=20)
    comparison = compared(later, dataset)
    for each in comparison.rows:
        assert (each.new, each.gone, each.changed) == (20, 20, 5)
        assert each.before == each.now == each.same + 25
        assert each.to_train == each.to_val == 0
    assert len(comparison.changed) == 5
    first = comparison.changed[0]
    assert first.before != first.now
    assert all(int(row.id.split(":")[1]) >= 220 for row in comparison.new)
    assert all(int(row.id.split(":")[1]) < 20 for row in comparison.gone)
    assert comparison.new[0].excerpt
    assert told(later, dataset, "note") == ["Since 2026-11: 80 new rows, 20 with another text, 80 gone."]


def test_a_row_that_changed_sides_is_wrong(dataset: Path, make: Make) -> None:
    later = make("later")
    moved, *rest = read_json_lines(later / "val" / "pubmed.jsonl")
    train = [*read_json_lines(later / "train" / "pubmed.jsonl"), moved]
    rewrite(later, "val", "pubmed", rest)
    rewrite(later, "train", "pubmed", train)
    assert told(later, dataset, "wrong") == [
        "1 row changed sides since 2026-11: 1 from val to train and 0 from train to val. "
        "A side is decided once; what models were evaluated on is trained on."
    ]
    (pubmed,) = (each for each in compared(later, dataset).rows if each.source == "pubmed")
    assert (pubmed.to_train, pubmed.to_val, pubmed.same) == (1, 0, 399)


@pytest.mark.parametrize("ending", ["", "#1"])
def test_a_record_of_the_previous_dataset_that_is_retracted_by_now_is_looked_at(
    dataset: Path, make: Make, ending: str
) -> None:
    later = make("later")
    removed = list(read_json_lines(later / "removed.jsonl"))
    (seen, *_) = read_json_lines(dataset / "train" / "pubmed.jsonl")
    gone = next(row for row in removed if row["reason"] == "retracted")
    write_json_lines(later / "removed.jsonl", [*removed[1:], {**gone, "id": seen["id"]}])
    rows = list(read_json_lines(dataset / "train" / "pubmed.jsonl"))
    rewrite(dataset, "train", "pubmed", [{**rows[0], "id": f"{seen['id']}{ending}"}, *rows[1:]])
    sentence = "1 row of 2026-11 is retracted by now and left out here; models that were trained on it have seen them."
    assert sentence in told(later, dataset, "look")
    assert compared(later, dataset).retracted_ids == [seen["id"]]


def test_a_source_that_is_gone_and_one_that_shrank_are_looked_at(make: Make, source: Any) -> None:
    before = make("before", {"docx": source("en", 300), "alpaca": source("en", 300)})
    after = make("after", {"alpaca": source("en", 260)})
    looked = told(after, before, "look")
    assert "docx is gone, with its 300 rows." in looked
    assert "40 rows of alpaca, 13 % of those before, are gone." in looked
    sentence = "The mixture of sources drifted: population stability index "
    assert [each for each in looked if each.startswith(sentence) and "alpaca, from 50 % to 100 %" in each]


def test_another_language_and_other_lengths_drift(make: Make, source: Any) -> None:
    before = make("before", {"docx": source("en", 400, words=40), "alpaca": source("en", 400, words=40)})
    after = make("after", {"docx": source("zh", 400, words=40), "alpaca": source("en", 400, words=160)})
    looked = told(after, before, "look")
    beginnings = (
        "The mixture of languages drifted: ",
        "The mixture of languages of docx drifted: ",
        "The lengths of rows drifted",
        "The lengths of rows drifted within 2 sources (population stability index above 0.25): ",
        "The characters of the text of docx drifted: ",
    )
    for beginning in beginnings:
        assert [each for each in looked if each.startswith(beginning)], beginning
    drifts = {(each.what, each.source): each for each in compared(after, before).drifts}
    assert drifts["languages", "alpaca"].stability == "stable"
    assert drifts["characters", "alpaca"].stability == "stable"
    assert [(each.name, each.before, each.now) for each in drifts["languages", "docx"].bins] == [
        ("en", 1, 0),
        ("zh", 0, 1),
    ]


def test_settings_that_changed_are_noted(dataset: Path, make: Make) -> None:
    later = make("later", settings={"seed": 7, "chunk": {"max_tokens": 1024}})
    assert "2 settings changed: chunk.max_tokens: 2048 → 1024 and seed: 42 → 7." in told(later, dataset, "note")


def test_a_row_is_found_by_the_hash_of_its_id(dataset: Path) -> None:
    odd = 'a "quoted" \\ name\n中'
    rewrite(dataset, "train", "pubmed", [{"id": odd, "messages": [{"role": "assistant", "content": "text"}]}])
    contents = read_contents(DatasetFiles(dataset))
    (number,) = (place for place, value in enumerate(contents.ids.tolist()) if value == id_hash(odd))
    file, id_, text = contents.row(number)
    assert (file.source, file.side, id_, text) == ("pubmed", "train", odd, "text")


def test_ids_that_end_like_those_of_chunks_are_ids_like_all_others(dataset: Path, make: Make) -> None:
    later = make("later")
    for folder, train, val in ((dataset, ["b#1", "b#2"], ["b#3"]), (later, ["b#1", "b#2", "c#1"], ["b#3", "c#2"])):
        for side, ids in (("train", train), ("val", val)):
            rows = [{"id": id_, "messages": [{"role": "assistant", "content": id_}]} for id_ in ids]
            rewrite(folder, side, "tcm_books", rows)
    (books,) = (each for each in compared(later, dataset).rows if each.source == "tcm_books")
    assert (books.before, books.same, books.new, books.now) == (3, 3, 2, 5)
    assert (books.gone, books.to_train, books.to_val) == (0, 0, 0)


def test_a_row_that_another_source_has_now_is_told(make: Make, source: Any) -> None:
    before = make("before", {"docx": source("en", 100)})
    after = make("after", {"docx": source("en", 100), "alpaca": source("en", 100)})
    (row, *rest) = read_json_lines(after / "train" / "docx.jsonl")
    rewrite(after, "train", "docx", rest)
    rewrite(after, "train", "alpaca", [*read_json_lines(after / "train" / "alpaca.jsonl"), row])
    build_data_report(after, before)
    (alpaca, docx) = compared(after, before).rows
    assert (alpaca.before, alpaca.new, alpaca.now) == (0, 101, 101)
    assert (docx.before, docx.same, docx.gone, docx.now) == (100, 99, 1, 99)
