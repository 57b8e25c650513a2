"""The step as a whole: what it returns, that it is idempotent, and that no value comes out of it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medllm_ops.curation.scrub import (
    KINDS,
    MARK,
    MOSTLY_PERSONAL,
    ScrubSettings,
    mark,
    scrub,
    scrub_for_review,
    scrub_text,
)

Row = Callable[..., dict[str, Any]]
Scrubbed = Callable[..., str]

DEFAULTS = ScrubSettings()
# Without presidio: its import takes seconds, and test_with_presidio.py has it.
QUICK = ScrubSettings(presidio=False)
PIECES = (
    *(
        "联系人：",
        "患者姓名：",
        "姓名 ",
        "医师签名：",
        "住院号：",
        "身份证号",
        "电话：",
        "邮箱",
        "地址：",
        "QQ：",
        "微信号",
        "IP：",
    ),
    *(
        "Contact: ",
        "Dear Dr. ",
        "Patient name: ",
        "MRN: ",
        "Tel. ",
        "Address: ",
        "SSN ",
        "Member ID ",
        "Sincerely,\n",
        "Name: ",
    ),
    *(
        "王小明",
        "欧阳明月",
        "阿依古丽·买买提",
        "Jane Roe",
        "O'Brien",
        "某",
        "，",
        "。",
        "、",
        "\n",
        " ",
        "\t",
        ":",
        "-",
        "(",
        ")",
        "（",
        "）",
    ),
    *(
        "13800138000",
        "148 1234 5678",
        "010-65123456",
        "11019919900307283X",
        "0012345",
        "4111 1111 1111 1111",
        "123-45-6789",
    ),
    *(
        "a.b@example.com",
        "x [at] example [dot] org",
        "203.0.113.9",
        "2001:db8::1",
        "上海市黄浦区南京东路100号",
        "3栋2单元501室",
    ),
    *(
        "12 Elm Street, Springfield, IL 62704",
        "⟨PHONE⟩",
        "⟨NAME⟩",
        "⟨",
        "⟩",
        "NCT01234567",
        "5 mg",
        "1",
        "王",
        "号",
        "@",
        "路",
    ),
)
texts = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from(PIECES), max_size=12).map("".join),
    st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=4)), max_size=12).map("".join),
)


@given(text=texts)
@settings(max_examples=600, suppress_health_check=[HealthCheck.too_slow])
def test_scrubbing_twice_is_scrubbing_once(text: str) -> None:
    once, replaced = scrub_text(text, QUICK)
    assert scrub_text(once, QUICK) == (once, [])
    new = [what for what in replaced if what is not None]
    assert len(MARK.findall(once)) == len(MARK.findall(text)) + len(new)
    if not new:
        assert once == text


@given(contents=st.lists(texts, min_size=1, max_size=3), title=texts)
@settings(max_examples=200)
def test_the_counts_are_the_marks(row: Row, contents: list[str], title: str) -> None:
    made = row(*contents, title=title)
    kept = ScrubSettings(presidio=False, max_scrubbed_share=1)
    before = copy.deepcopy(made)
    outcome, findings = scrub_for_review(made, kept)
    assert made == before
    assert outcome.row is not None
    fields = [*(turn["content"] for turn in outcome.row["messages"]), outcome.row["title"]]
    marks = sum(len(MARK.findall(text)) for text in fields)
    assert marks == outcome.marks.total() + sum(len(MARK.findall(text)) for text in [*contents, title])
    assert len(findings) == outcome.marks.total()
    assert scrub(outcome.row, kept).marks.total() == 0


@given(text=st.text(st.characters(), max_size=80))
@settings(max_examples=200)
def test_no_text_crashes_it(row: Row, text: str) -> None:
    scrub(row(text, title=text, rejected_response=text), QUICK)


def test_a_row_without_personal_data_is_the_row_itself(row: Row) -> None:
    made = row("阿司匹林100mg，每日一次。", "NCT01234567, PMID 31408116, ICD-10 E11.9, ISBN 978-7-117-12345-6")
    outcome = scrub(made, DEFAULTS)
    assert outcome.row is made
    assert not outcome.marks


def test_every_text_of_a_row_is_scrubbed_and_nothing_else(row: Row) -> None:
    mail = "写信给 a.b@example.com 咨询用药的问题，门诊时间见网站。"
    made = row(mail, mail, title=mail, rejected_response=mail, url="https://example.org/?to=a.b@example.com")
    outcome = scrub(made, DEFAULTS)
    assert outcome.row is not None
    assert [turn["content"] for turn in outcome.row["messages"]] == [mail.replace("a.b@example.com", "⟨EMAIL⟩")] * 2
    assert outcome.row["title"] == outcome.row["rejected_response"] == outcome.row["messages"][0]["content"]
    assert outcome.row["url"] == made["url"]
    assert outcome.marks == {"EMAIL": 4}


def test_a_row_that_is_a_list_of_contacts_is_dropped(row: Row) -> None:
    contacts = row("张三丰 13800138000 a@example.com\n李四光 13900139000 b@example.com")
    outcome = scrub(contacts, DEFAULTS)
    assert (outcome.row, outcome.reason) == (None, MOSTLY_PERSONAL)
    assert outcome.detail.startswith("0.")
    assert outcome.marks == {"PHONE": 2, "EMAIL": 2}
    assert scrub(contacts, ScrubSettings(max_scrubbed_share=1)).kept


def test_only_the_kinds_asked_for_are_replaced(scrubbed: Scrubbed) -> None:
    text = "联系人：王小明，电话13800138000"
    assert scrubbed(text) == "联系人：⟨NAME⟩，电话⟨PHONE⟩"
    assert scrubbed(text, kinds=("PHONE",)) == "联系人：王小明，电话⟨PHONE⟩"
    assert scrubbed(text, kinds=()) == text


def test_values_to_keep_stay(scrubbed: Scrubbed) -> None:
    text = "热线400-820-8820或13800138000"
    assert scrubbed(text, keep=("400-820-8820",)) == "热线400-820-8820或⟨PHONE⟩"


def test_marks_in_the_text_are_left_alone_and_are_no_labels(scrubbed: Scrubbed) -> None:
    text = "⟨PHONE⟩: 1234567 ⟨NAME⟩：说明 ⟨EMAIL⟩ ⟨ADDRESS⟩"
    assert scrubbed(text) == text


def test_what_an_early_round_replaced_is_context_for_the_next(scrubbed: Scrubbed) -> None:
    assert scrubbed("寄：上海市徐汇区天平路12号，王小明收") == "寄：⟨ADDRESS⟩，⟨NAME⟩收"


@pytest.mark.parametrize("kind", KINDS)
def test_a_mark_is_one_word_in_brackets_that_no_normalisation_changes(kind: Any) -> None:
    import unicodedata

    assert all(unicodedata.normalize(form, mark(kind)) == mark(kind) for form in ("NFC", "NFD", "NFKC", "NFKD"))
    assert MARK.fullmatch(mark(kind))


def test_findings_show_a_reviewer_everything_but_the_value(row: Row) -> None:
    made = row("随访电话 13800138000，剂量 5 mg；联系人：王小明（儿子），住院号：0012345。" + "其余从略。" * 20)
    _, findings = scrub_for_review(made, DEFAULTS)
    assert [(one.kind, one.shape) for one in findings] == [
        ("PHONE", "99999999999"),
        ("NAME", "字字字"),
        ("RECORD", "9999999"),
    ]
    assert {(one.id, one.field) for one in findings} == {("made:1", "messages.0")}
    assert findings[0].context == "随访电话 ⟨PHONE⟩，剂量 # mg；联系人：⟨NAME⟩（儿子），住院号：⟨R"
    for one in findings:
        assert not any(value in str(one) for value in ("13800138000", "王小明", "0012345"))


def test_the_context_is_as_long_as_set(row: Row) -> None:
    _, findings = scrub_for_review(
        row("甲乙丙丁 13800138000 戊己庚辛。其余从略，其余从略。"), ScrubSettings(review_context=3)
    )
    assert findings[0].context == "丙丁 ⟨PHONE⟩ 戊己"


def test_the_step_goes_to_other_processes(row: Row) -> None:
    step, settings_, made = pickle.loads(pickle.dumps((scrub, DEFAULTS, row("电话13800138000，请于周一至周五来电"))))
    outcome = step(made, settings_)
    assert pickle.loads(pickle.dumps(outcome)) == outcome
    assert outcome.marks == {"PHONE": 1}
