from __future__ import annotations

import copy
import pickle
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medllm_ops.curation.clean import CleanSettings, clean
from medllm_ops.curation.clean.clean import MOST_PASSES, clean_text

DEFAULTS = CleanSettings()
REPAIR = CleanSettings.model_validate({"dialogues": {"faults": "repair"}})

DIRTY = (
    "\ufeffEffects of a drug on the outcome of patients with an infarction.\r\n"
    "<p><b>RESULTS:</b>&nbsp;Mortality fell (p&lt;0.05) at 5\xad10&nbsp;\uf06dg/kg; 10<sup>-3</sup> mol"
    " of H<sub>2</sub>O.</p>\r\n"
    "Share on Facebook\r\n\r\n\r\n\r\nThe dose was ５㎎.   © 2020 Some Publisher. All rights reserved."
)
CLEAN = (
    "Effects of a drug on the outcome of patients with an infarction.\n\n"
    "RESULTS: Mortality fell (p<0.05) at 5-10 μg/kg; 10⁻³ mol of H₂O.\n\n"
    "The dose was 5mg."
)


def document(text: str, **more: Any) -> dict[str, Any]:
    return {"id": "a:1", "messages": [{"role": "assistant", "content": text}], "source": "a", "language": "en", **more}


def dialogue(*contents: str, **more: Any) -> dict[str, Any]:
    roles = ("user", "assistant")
    messages = [{"role": roles[number % 2], "content": content} for number, content in enumerate(contents)]
    return {"id": "b:1", "messages": messages, "source": "b", "language": "zh", **more}


def test_a_document_is_put_in_order_and_the_given_row_is_not_touched() -> None:
    row = document(DIRTY, title="T", licence="L")
    before = copy.deepcopy(row)
    outcome = clean(row, DEFAULTS)
    assert outcome.row == {**row, "messages": [{"role": "assistant", "content": CLEAN}]}
    assert list(outcome.row) == list(row)
    assert row == before
    assert {"unicode.invisible", "html.tag", "html.raised_or_lowered", "boilerplate.copyright"} <= set(outcome.marks)


def test_a_clean_row_comes_back_as_the_same_object() -> None:
    row = document(CLEAN)
    outcome = clean(row, DEFAULTS)
    assert outcome.row is row
    assert not outcome.marks


def test_dialogues_keep_markdown_code_and_lines() -> None:
    answer = "**用法**：\n\n1. 每日２次\n2. `5 mg`\n\n```\nif a <b>:\n    x  = 1\n```"
    outcome = clean(dialogue("怎么用？\u200b", answer), DEFAULTS)
    assert outcome.row is not None
    assert [m["content"] for m in outcome.row["messages"]] == ["怎么用？", answer.replace("２", "2")]


def test_a_turn_about_html_keeps_its_tags() -> None:
    row = dialogue("HTML 的 <br> 是什么？", "`<br>` 是 HTML 的换行标签，写作 <br>。")
    assert clean(row, DEFAULTS).row is row
    outcome = clean(dialogue("头痛<br>怎么办？", "多休息&nbsp;<br/>多喝水"), DEFAULTS)
    assert outcome.row is not None
    assert [m["content"] for m in outcome.row["messages"]] == ["头痛\n怎么办？", "多休息\n多喝水"]


def test_a_document_of_which_nothing_is_left_is_dropped_with_that_reason() -> None:
    for text in ("", " \n\u200b", "<br><br>", "Share on Facebook\n3 likes"):
        assert clean(document(text), DEFAULTS).reason == "nothing left of the text"


def test_a_turn_that_is_empty_after_cleaning_is_an_empty_turn() -> None:
    row = dialogue("头痛怎么办？", "\u200b\ufeff")
    assert clean(row, DEFAULTS).reason == "empty turn"
    row = dialogue("头痛怎么办？", "多休息。", "<br>", "多喝水。")
    assert clean(row, DEFAULTS).reason == "empty turn"
    repaired = clean(row, REPAIR)
    assert repaired.row is not None
    assert [m["content"] for m in repaired.row["messages"]] == ["头痛怎么办？", "多休息。\n多喝水。"]
    assert repaired.marks == {
        "html.tag": 1,
        "layout.white_space": 1,
        "dialogue.empty_turn": 1,
        "dialogue.joined_turns": 1,
    }


def test_a_repair_alone_changes_the_row() -> None:
    row = dialogue("头痛怎么办？", "多休息。", "谢谢。")
    outcome = clean(row, REPAIR)
    assert outcome.row == {**row, "messages": row["messages"][:2]}
    assert outcome.marks == {"dialogue.unanswered_turn": 1}


def test_both_answers_of_a_preference_are_cleaned_alike() -> None:
    outcome = clean(dialogue("问", "好的\u200b。", rejected_response="不\u200b。"), DEFAULTS)
    assert outcome.row is not None
    assert outcome.row["messages"][1]["content"] == "好的。"
    assert outcome.row["rejected_response"] == "不。"
    assert (
        clean(dialogue("问", "好的。", rejected_response="好的。\u200b"), DEFAULTS).reason == "both answers are equal"
    )
    assert clean(dialogue("问", "好的。", rejected_response=" "), DEFAULTS).reason == "no rejected response"


@pytest.mark.parametrize(
    "row",
    [
        None,
        [],
        {},
        {"messages": []},
        {"messages": "text"},
        {"messages": ["text"]},
        {"messages": [{"role": "assistant"}]},
        {"messages": [{"role": "assistant", "content": None}]},
        {"messages": [{"role": 1, "content": "text"}]},
        document("text", language=3),
        dialogue("a", "b", rejected_response=["c"]),
    ],
)
def test_what_is_no_row_is_dropped_and_never_raises(row: Any) -> None:
    outcome = clean(row, DEFAULTS)
    assert outcome.reason == "not a row of messages"
    assert outcome.detail


def test_each_part_can_be_switched_off() -> None:
    off = CleanSettings.model_validate(
        {
            "layout": {"html": False, "markdown": False, "hard_wraps": False},
            "boilerplate": {"remove": False},
            "unicode": {"compatibility": False, "private_use": False},
        }
    )
    text = "## The <b>drug</b>\n\nIt was given to all of the patients: ５ \uf06dg.\nShare on Facebook"
    assert clean(document(text), off).row == document(text)
    assert clean(document(text), DEFAULTS).row == document("The drug\n\nIt was given to all of the patients: 5 μg.")


def test_an_entity_that_hides_a_tag_is_found_in_the_next_pass() -> None:
    assert clean_text("a&#8203;<b&#8203;r>c", True, DEFAULTS, Counter()) == "a\nc"
    hidden = "<br>"
    for _ in range(MOST_PASSES):
        hidden = hidden.replace("<", "&lt;").replace("&", "&amp;")
    assert clean_text(f"a{hidden}b", True, DEFAULTS, Counter()) == "a\nb"


def test_it_runs_in_a_pool_of_processes() -> None:
    step = partial(clean, settings=DEFAULTS)
    assert pickle.loads(pickle.dumps(step))(document(DIRTY)) == clean(document(DIRTY), DEFAULTS)
    rows = [document(DIRTY), document(CLEAN), dialogue("问", "")]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert list(pool.map(step, rows)) == [clean(row, DEFAULTS) for row in rows]


ENGLISH, CHINESE = "The drug and the dose of it. ", "头痛，服药。"
MARKUP = [
    "<b>",
    "</b>",
    "<br>",
    "&lt;",
    "&amp;",
    "&#8203;",
    "**",
    "# ",
    "\\*",
    "[a](http://b)",
    "```",
    "---\n",
    "|",
    "- item\n",
]
ODD = [
    "５㎎",
    "\u200b",
    "\xad",
    "\ue000",
    "\ufffd",
    "\ud800",
    "\x85",
    "e\u0301",
    "\n",
    "\n\n",
    "  ",
    "\t",
    "5",
    "p<0.05",
]
AROUND = ["Share\n", "© 2020 X.", "以上是对“x”这个问题的建议。", "<|im_end|>"]
PIECES = st.sampled_from([ENGLISH, CHINESE, *MARKUP, *ODD, *AROUND])
TEXTS = st.one_of(st.lists(PIECES, max_size=20).map("".join), st.text(st.characters(), max_size=50))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS, lambda inner: st.lists(inner, max_size=3), max_leaves=4
)
MESSAGES = st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant", "x"]), "content": TEXTS})
ROWS = st.fixed_dictionaries(
    {"messages": st.lists(MESSAGES, min_size=1, max_size=4)},
    optional={"language": st.sampled_from(["en", "zh", "fr", ""]), "rejected_response": TEXTS, "id": TEXTS},
)


@settings(max_examples=300)
@given(ROWS, st.sampled_from([DEFAULTS, REPAIR]))
def test_every_row_is_kept_or_dropped_with_a_reason_and_cleaning_again_changes_nothing(
    row: dict[str, Any], chosen: CleanSettings
) -> None:
    before = copy.deepcopy(row)
    outcome = clean(row, chosen)
    assert row == before
    assert clean(row, chosen) == outcome
    if outcome.row is None:
        assert outcome.reason
        return
    assert all(message["content"] for message in outcome.row["messages"])
    again = clean(outcome.row, chosen)
    assert again.row is outcome.row, (again, outcome)
    assert not again.marks
    orjson.dumps([message["content"] for message in outcome.row["messages"]])


@settings(max_examples=200)
@given(
    st.fixed_dictionaries(
        {"messages": st.lists(st.fixed_dictionaries({"role": JSON, "content": JSON}) | JSON, max_size=3) | JSON},
        optional={"language": JSON, "rejected_response": JSON},
    )
)
def test_no_shape_of_a_row_crashes_it(row: dict[str, Any]) -> None:
    outcome = clean(row, DEFAULTS)
    assert outcome.kept or outcome.reason
