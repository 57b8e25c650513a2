import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medllm_ops.curation.duplicates.normalise import Shape, Unit, compared, content_hash, nfkc, normalised


@pytest.mark.parametrize(
    ("text", "equal"),
    [
        ("Acute  Pain\n\tin\x0badults ", "acute pain in adults"),
        ("桂枝 汤，主\n治　太阳病。", "桂枝汤,主治太阳病。"),
        ("用 IL-6 检测", "用il-6检测"),
        ("カ ン ゾ ウ", "カンゾウ"),
        ("", ""),
        (" \n ", ""),
        # A few Chinese names in an English text do not glue its words.
        (
            "the formula 桂枝 汤 (Guizhi Tang) was\ngiven for a week",
            "the formula桂枝汤(guizhi tang) was given for a week",
        ),
        ("µg and μg, ﬁve", "μg and μg, five"),
    ],
)
def test_normalised(text: str, equal: str) -> None:
    assert normalised(text) == equal


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_white_space_at_the_ends_and_its_kind_never_count(text: str) -> None:
    assert normalised(f"\n{text}　") == normalised(text)
    assert normalised(text.replace(" ", "\n\t")) == normalised(text)


@given(st.text(st.sampled_from("ab 桂枝\n，. ")))
def test_wraps_between_chinese_characters_never_count(text: str) -> None:
    assert normalised("桂枝汤桂枝汤" + "\n".join(text)) == normalised("桂枝汤桂枝汤" + text)


@given(st.text())
def test_any_text_is_normalised_and_compared(text: str) -> None:
    found = compared({"messages": [{"role": "assistant", "content": text}]})
    assert found.length == len(normalised(text))
    assert "\n" not in found.text
    assert "  " not in found.text
    assert found.text == found.text.strip(" ")


@given(st.text() | st.text(st.sampled_from("，：；？！（）％　＝ﬁ①℃\u0338\u0301e=é")))
def test_nfkc(text: str) -> None:
    assert nfkc(text) == unicodedata.normalize("NFKC", text)


def test_punctuation_is_not_compared(text_row: Callable[..., Any]) -> None:
    one = compared(text_row("a", "Fever, cough (3 days): “severe” – see IL-6."))
    assert one.text == "fever cough 3 days severe see il 6"
    assert one.unit is Unit.WORDS
    two = compared(text_row("a", "发热、咳嗽（三日）：重症，见 IL-6。"))
    assert two.text == "发热咳嗽三日重症见il6"
    assert two.unit is Unit.CHARACTERS


def test_the_script_decides_the_unit_not_the_label(text_row: Callable[..., Any]) -> None:
    assert compared(text_row("a", "发热咳嗽", language="en")).unit is Unit.CHARACTERS
    assert compared(text_row("a", "fever and cough", language="zh")).unit is Unit.WORDS
    assert compared(text_row("a", "한국어 문장은 띄어쓰기를 합니다")).unit is Unit.WORDS


def test_a_dialogue_is_what_is_asked_and_what_is_answered(chat_row: Callable[..., Any]) -> None:
    found = compared(chat_row("a", "Fever?", "Rest.", "And cough?", "Tea!"))
    assert found.text == "fever and cough\nrest tea"
    assert found.shape is Shape.DIALOGUE
    rejected = compared(chat_row("a", "Fever?", "Rest.", rejected_response="Run."))
    assert rejected.text == "fever\nrest run"
    assert rejected.shape is Shape.PREFERENCE


def test_shape_and_roles_are_part_of_the_content(text_row: Callable[..., Any], chat_row: Callable[..., Any]) -> None:
    rows = [
        text_row("a", "Rest."),
        chat_row("a", "", "Rest."),
        chat_row("a", "Rest.", ""),
        chat_row("a", "", "Rest.", rejected_response=""),
        chat_row("a", "", "Rest.", rejected_response="Run."),
    ]
    assert len({content_hash(row) for row in rows}) == len(rows)
    assert content_hash(rows[0]) == content_hash(text_row("other", " rest.\n", source="x", version=9))
