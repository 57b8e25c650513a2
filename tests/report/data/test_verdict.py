from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.files import read_json_lines, write_json_lines
from medllm_ops.report.data.build import data_report

Change = Callable[[str, Callable[[Any], Any]], None]
Make = Callable[..., Path]

NO_LICENCE = "220 rows have no known licence: 220 of deepctrl."


def told(folder: Path, previous: Path | None = None, level: str = "wrong") -> list[str]:
    return [each.sentence for each in data_report(folder, previous).findings if each.level == level]


def test_nothing_is_wrong_where_nothing_is_wrong(dataset: Path) -> None:
    assert told(dataset) == []
    assert told(dataset, level="look") == [NO_LICENCE]
    good = told(dataset, level="good")
    assert good[0] == (
        "Every step balances: 1,438 rows came in, 258 were removed, each with its reason, and 1,180 were written, "
        "1,071 to train and 109 to validate. 93 equations checked, all hold."
    )
    assert len(good) == 5
    assert told(dataset, level="note") == [
        "2 input lines are no record, 0.1 % of all; most often: not JSON.",
        "3 retracted rows were left out.",
        "4 rows gave away what a model will be evaluated on, and went: 2 of 120 items of exam.jsonl were found.",
        "12 pieces of personal data were replaced by marks: 8 × EMAIL and 4 × PHONE.",
    ]


@pytest.mark.parametrize(
    ("name", "how", "sentence"),
    [
        (
            "ledger.json",
            lambda rows: rows[0].update(out=472),
            "This does not hold: in = out + dropped, in every step of every source. "
            "read of pubmed: 478 in, 472 out and 5 dropped.",
        ),
        (
            "ledger.json",
            lambda rows: rows[4].update({"in": 430, "dropped": {"near duplicate": 18}, "out": 412}),
            "This does not hold: each step takes what the one before it gave. "
            "exact dedup of pubmed gave 422 rows, near dedup took 430; "
            "near dedup of pubmed gave 412 rows, decontaminate took 404.",
        ),
        (
            "removed.jsonl",
            lambda rows: rows.pop(),
            "This does not hold: every dropped row is listed with its reason in removed.jsonl. "
            "chunk of deepctrl, dialogue too long: 3 in the ledger, 2 in removed.jsonl.",
        ),
        (
            "removed.jsonl",
            lambda rows: rows.append({"id": "x", "step": "clean", "reason": "new", "source": "docx"}),
            "This does not hold: every dropped row is listed with its reason in removed.jsonl. "
            "clean of docx, new: 0 in the ledger, 1 in removed.jsonl.",
        ),
        (
            "ledger.json",
            lambda rows: next(row for row in rows if row["step"] == "chunk").update(pieces=401),
            "This does not hold: what the last step gave was written, to train or to val. "
            "the last step of pubmed gave 401 rows, 400 were written.",
        ),
        (
            "val/pubmed.jsonl",
            lambda rows: rows[0]["messages"][0].update(content="another text"),
            "This does not hold: the files hold the rows and have the hashes that the manifest tells. "
            "val/pubmed.jsonl was changed after it was written.",
        ),
        (
            "val/pubmed.jsonl",
            lambda rows: rows.pop(),
            "This does not hold: the files hold the rows and have the hashes that the manifest tells. "
            "val/pubmed.jsonl has 30 rows, the manifest tells 31.",
        ),
    ],
)
def test_what_does_not_balance_is_wrong(
    dataset: Path, change: Change, name: str, how: Callable[[Any], Any], sentence: str
) -> None:
    change(name, how)
    assert sentence in told(dataset)
    report = data_report(dataset)
    assert report.level == "wrong"
    assert report.findings[0].level == "wrong"
    assert [account.name for account in report.accounts if not account.holds]


@pytest.mark.parametrize(
    ("side", "sentence"),
    [
        ("train", "1 row has the id of another row on the same side."),
        ("val", "1 id stands on both sides: what validates is trained on."),
    ],
)
def test_an_id_that_stands_twice_is_wrong(dataset: Path, side: str, sentence: str) -> None:
    row = next(iter(read_json_lines(dataset / "train" / "pubmed.jsonl")))
    path = dataset / side / "alpaca.jsonl"
    write_json_lines(path, [*read_json_lines(path), row])
    assert sentence in told(dataset)


def test_a_source_without_validation_is_wrong(make: Make, source: Any) -> None:
    lone = make("lone", {"docx": source("en", 1), "pubmed": source("en", 300)}, evalsets=False)
    assert told(lone) == ["docx has no row to validate, beside 1 on the other side."]
    assert "The rows were compared with no evaluation set: none was named." in told(lone, level="note")


def test_a_source_that_lost_more_than_half_is_looked_at(make: Make, source: Any) -> None:
    drops = {("clean", "too short"): 61, ("near dedup", "near duplicate"): 140}
    sampled = {("sample", "not drawn"): 800}
    lossy = make("lossy", {"docx": source("en", 200, drops), "alpaca": source("en", 200, sampled)})
    assert told(lossy, level="look") == [
        "docx lost 50.1 % of its 401 rows, most of them (140) in near dedup: near duplicate."
    ] or told(lossy, level="look") == [
        "docx lost 50 % of its 401 rows, most of them (140) in near dedup: near duplicate."
    ]
    nothing = make("nothing", {"docx": source("en", 0, drops), "alpaca": source("en", 200)})
    assert told(nothing) == ["docx lost all its 201 rows, most of them (140) in near dedup: near duplicate."]


def test_half_is_not_more_than_half(make: Make, source: Any) -> None:
    even = make("even", {"docx": source("en", 200, {("clean", "too short"): 200})})
    assert told(even, level="look") == []
    assert "No source lost more than half of its rows; docx lost the most, 50 %." in told(even, level="good")


def test_many_unreadable_lines_are_looked_at(make: Make, source: Any) -> None:
    torn = make("torn", {"docx": source("en", 200, {("read", "not JSON"): 5, ("read", "retracted"): 9})})
    assert told(torn, level="look") == ["5 input lines are no record, 2.3 % of all; most often: not JSON."]


def test_a_share_of_validation_far_from_its_setting_is_looked_at(make: Make, source: Any) -> None:
    sources = {"docx": source("en", 300), "alpaca": source("en", 300)}
    odd = make("odd", sources, settings={"split": {"val_share": 0.4}, "sets": {"alpaca": {"val_share": 0.1}}})
    (sentence,) = told(odd, level="look")
    assert sentence.startswith("The share of rows that validate is far from its setting in ")
    assert sentence.endswith(" of docx (set: 40 %).")
    assert "alpaca" not in sentence


def test_scrubbing_switched_off_is_looked_at(make: Make, source: Any) -> None:
    bare = make("bare", {"docx": source("en", 200)}, settings={"scrub": {"enabled": False}})
    assert told(bare, level="look") == ["Scrubbing was switched off: personal data stays as it is."]


def test_evaluation_items_too_short_to_be_found_are_looked_at(dataset: Path, change: Change) -> None:
    change("data/decontamination.json", lambda row: row["evalsets"][0].update(too_short=61, items_found=0))
    assert "More than half of the 120 items of exam.jsonl are too short to be found." in told(dataset, level="look")
    assert "Nothing of 120 items of 1 evaluation set was found in the rows." in told(dataset, level="good")
