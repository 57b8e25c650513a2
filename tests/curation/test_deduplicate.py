from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medllm_ops.curation.deduplicate import ExactDeduplication, content_hash, deduplicate, normalised, stage_of
from medllm_ops.files import read_json, read_json_lines, write_json_lines

Row = dict[str, Any]


def text_row(id_: str, text: str, **more: Any) -> Row:
    return {"id": id_, "messages": [{"role": "assistant", "content": text}], "retracted": False, **more}


def chat_row(id_: str, question: str, answer: str, **more: Any) -> Row:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"id": id_, "messages": turns, "retracted": False, **more}


@pytest.fixture
def run(tmp_path: Path) -> Callable[[dict[str, list[Row]]], Path]:
    """Deduplicate the rows of some sources into a folder."""

    def do(sources: dict[str, list[Row]]) -> Path:
        inputs = {name: tmp_path / f"{name}.jsonl" for name in sources}
        for name, rows in sources.items():
            write_json_lines(inputs[name], rows)
        deduplicate(inputs, tmp_path / "out")
        return tmp_path / "out"

    return do


@pytest.mark.parametrize(
    ("text", "equal"),
    [
        ("Acute  Pain\n\tin adults ", "acute pain in adults"),
        ("ＩＬ－６ ﬁbrosis", "il-6 fibrosis"),
        ("桂枝 汤，主\n治　太阳病。", "桂枝汤,主治太阳病。"),
        ("用 IL-6 检测", "用il-6检测"),
        ("㐂 𠀀", "㐂𠀀"),
        ("１０ ｍｇ", "10 mg"),
    ],
)
def test_texts_are_equal_whatever_their_width_case_and_white_space(text: str, equal: str) -> None:
    assert normalised(text) == equal
    assert content_hash(text_row("a", text)) == content_hash(text_row("b", equal))


@pytest.mark.parametrize(("one", "other"), [("a b", "ab"), ("10 mg", "100 mg"), ("桂枝汤", "桂枝湯"), ("a", "a.")])
def test_other_texts_are_not_equal(one: str, other: str) -> None:
    assert content_hash(text_row("a", one)) != content_hash(text_row("a", other))


def test_the_roles_and_turns_count_as_much_as_the_words() -> None:
    hashes = {
        content_hash({"messages": [{"role": role, "content": text} for role, text in turns]})
        for turns in (
            [("user", "a"), ("assistant", "b")],
            [("user", "b"), ("assistant", "a")],
            [("system", "a"), ("assistant", "b")],
            [("user", "a b")],
            [("user", "a assistant b")],
            [("user", "a\n\nassistant\nb")],
        )
    }
    assert len(hashes) == 5  # the last two differ in white space only


def test_the_first_of_equal_records_stays_across_sources(run: Callable[..., Path]) -> None:
    out = run(
        {
            "pubmed": [text_row("pubmed:1", "Some text"), text_row("pubmed:2", "other")],
            "docx": [text_row("docx:1", "some  TEXT"), text_row("docx:2", "new")],
        }
    )
    assert [row["id"] for row in read_json_lines(out / "pubmed.jsonl")] == ["pubmed:1", "pubmed:2"]
    assert [row["id"] for row in read_json_lines(out / "docx.jsonl")] == ["docx:2"]
    assert list(read_json_lines(out / "removed.jsonl")) == [
        {"id": "docx:1", "step": "exact dedup", "reason": "exact duplicate", "kept": "pubmed:1"}
    ]
    assert read_json(out / "ledger.json") == [
        {"step": "select", "in": 4, "out": 4, "dropped": {}},
        {"step": "exact dedup", "in": 4, "out": 3, "dropped": {"exact duplicate": 1}},
    ]
    assert read_json(out / "sets.json") == {"pubmed": "pretrain", "docx": "pretrain"}


def test_a_retracted_record_is_out_and_does_not_stand_for_others(run: Callable[..., Path]) -> None:
    out = run({"pubmed": [text_row("pubmed:1", "text", retracted=True), text_row("pubmed:2", "text")]})
    assert [row["id"] for row in read_json_lines(out / "pubmed.jsonl")] == ["pubmed:2"]
    assert list(read_json_lines(out / "removed.jsonl")) == [{"id": "pubmed:1", "step": "select", "reason": "retracted"}]


def test_preference_pairs_are_counted_where_no_stage_uses_them(run: Callable[..., Path]) -> None:
    out = run({"preference": [chat_row("preference:1", "q", "good", rejected_response="bad")]})
    assert read_json(out / "sets.json") == {}
    assert read_json(out / "ledger.json")[0]["dropped"] == {"no stage trains on preference pairs": 1}


def test_a_source_with_texts_and_dialogues_makes_two_sets(run: Callable[..., Path]) -> None:
    out = run({"messages": [text_row("m:1", "text"), chat_row("m:2", "q", "a")], "alpaca": [chat_row("a:1", "q", "b")]})
    assert read_json(out / "sets.json") == {"messages_pretrain": "pretrain", "messages_sft": "sft", "alpaca": "sft"}
    assert [row["id"] for row in read_json_lines(out / "messages_pretrain.jsonl")] == ["m:1"]
    (row,) = read_json_lines(out / "messages_sft.jsonl")
    assert row == {**chat_row("m:2", "q", "a"), "content": content_hash(row)}
    assert stage_of({"messages": [{"role": "user", "content": "q"}]}) == "sft"


def test_equal_records_of_one_id_are_trained_on_once() -> None:
    deduplication = ExactDeduplication()
    assert len(list(deduplication.filter([text_row("a", "text"), text_row("a", "text")]))) == 1
    assert deduplication.ledger[1].check().dropped == {"exact duplicate": 1}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.text("aA 　汤", max_size=3), st.booleans())))
def test_every_record_is_accounted_for_and_no_two_that_stay_are_equal(rows: list[tuple[str, str, bool]]) -> None:
    given_rows = [text_row(id_, text, retracted=retracted) for id_, text, retracted in rows]
    deduplication = ExactDeduplication()
    kept = list(deduplication.filter(given_rows))
    select, dedup = (entry.check() for entry in deduplication.ledger)
    assert select.rows_in == len(rows)
    assert dedup.rows_out == len(kept)
    assert len(deduplication.removed) == len(rows) - len(kept)
    digests = [digest for digest, _ in kept]
    assert len(set(digests)) == len(digests)
    assert set(digests) == {content_hash(row) for row in given_rows if not row["retracted"]}


def test_the_same_inputs_give_the_same_bytes_and_other_inputs_other_ones(run: Callable[..., Path]) -> None:
    out = run({"docx": [text_row("docx:1", "a"), text_row("docx:2", "A")]})
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.iterdir()}
    run({"docx": [text_row("docx:1", "a"), text_row("docx:2", "A")]})
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.iterdir()} == before
    run({"docx": [text_row("docx:2", "A")]})
    assert [row["id"] for row in read_json_lines(out / "docx.jsonl")] == ["docx:2"]
