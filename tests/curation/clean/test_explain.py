from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from medllm_ops.curation.clean import CleanSettings, clean, explain
from medllm_ops.curation.clean.explain import MOST_CHANGES, Change, changes_between

DEFAULTS = CleanSettings()


def row(*turns: tuple[str, str], **more: Any) -> dict[str, Any]:
    messages = [{"role": role, "content": content} for role, content in turns]
    return {"id": "a:1", "messages": messages, "language": "en", **more}


def test_it_tells_which_rule_did_what_in_which_order() -> None:
    text = "\ufeffThe <b>drug</b> was given to all of the patients at 5\u00a0㎎.\nShare on Facebook"
    told = explain(row(("assistant", text)), DEFAULTS)
    assert [(step.place, step.rule) for step in told.steps] == [
        ("turn 1, assistant", "unicode"),
        ("turn 1, assistant", "html"),
        ("turn 1, assistant", "boilerplate"),
    ]
    unicode, html, boilerplate = told.steps
    assert unicode.marks == {"unicode.invisible": 1, "unicode.spaces": 1, "unicode.compatibility": 1}
    assert unicode.changes == (Change("\ufeff", ""), Change("\u00a0㎎", " mg"))
    assert html.changes == (Change("<b>", ""), Change("</b>", ""))
    assert boilerplate.changes == (Change("\nShare on Facebook", ""),)
    assert told.outcome.row is not None
    assert told.outcome.row["messages"][0]["content"] == "The drug was given to all of the patients at 5 mg."
    lines = told.lines()
    assert "turn 1, assistant: html (html.tag ×2)" in lines
    assert "    '<b>' → ''" in lines
    assert lines[-1] == "kept"


def test_it_tells_why_a_record_was_dropped() -> None:
    told = explain(row(("user", "What helps?\u200b"), ("assistant", "")), DEFAULTS)
    assert told.lines()[-1] == "dropped: empty turn (turn 2, assistant)"
    assert [step.place for step in told.steps] == ["turn 1, user"]
    assert explain(row(("assistant", "Short.")), DEFAULTS).lines() == ["dropped: too short (1 words)"]


def test_it_tells_what_was_done_to_the_record_as_a_whole() -> None:
    told = explain(row(("user", "头痛怎么办？"), ("assistant", "多休息，多喝水。\u200b")), DEFAULTS)
    assert told.lines()[-2:] == ["record: language.corrected ×1", "kept"]
    assert "record: unicode.invisible ×1" not in told.lines()
    same = row(("user", "What helps the patient?"), ("assistant", "Rest and water for the day."))
    assert explain(same, DEFAULTS).lines() == ["kept, nothing to clean"]


def test_a_rejected_response_has_its_place() -> None:
    told = explain(row(("user", "Why?"), ("assistant", "So."), rejected_response="No.\u200b"), DEFAULTS)
    assert [step.place for step in told.steps] == ["rejected response"]


def test_changes_are_shown_small_and_are_not_too_many() -> None:
    assert changes_between("same", "same") == ()
    assert changes_between("a  b c", "a b c") == (Change("  ", " "),)
    many = changes_between("a\u200b " * 100, "a " * 100)
    assert len(many) == MOST_CHANGES
    long = changes_between("x " * 10_000 + "y", "z" * 10_000)
    assert len(long) == 1
    assert len(long[0].before) == len(long[0].after) == 120


@given(st.lists(st.sampled_from(["a", "５", "<br>", "&lt;", "  ", "\n", "**", "\u200b", "头痛。"]), max_size=15))
def test_it_tells_the_same_as_cleaning_does(pieces: list[str]) -> None:
    given_row = row(("user", "".join(pieces)), ("assistant", "The drug. " + "".join(reversed(pieces))))
    told = explain(given_row, DEFAULTS)
    outcome = clean(given_row, DEFAULTS)
    assert told.outcome == outcome
    counted = sum((Counter(step.marks) for step in told.steps), Counter[str]())
    assert counted <= outcome.marks
