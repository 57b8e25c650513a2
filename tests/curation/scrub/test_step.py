"""The step as a whole: what it returns, that it is idempotent, and that no value comes out of it."""

from __future__ import annotations

import copy
import pickle
import time
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


@pytest.mark.parametrize(
    "number",
    [
        "+1 555 123 4567",
        "+1-555-123-4567",
        "+15551234567",
        "555-123-4567",
        "(555) 123-4567",
        "010-12345678",
        "(010) 12345678",
        "+44 7700 900123",
        "+44 1632 960123",
    ],
)
def test_numbers_that_novels_and_forms_use_are_telephone_numbers_too(scrubbed: Scrubbed, number: str) -> None:
    assert scrubbed(f"At {number} until noon.") == "At ⟨PHONE⟩ until noon."


@pytest.mark.parametrize("text", ["a change of +10 000 000 points", "positions 123-456-7890", "+12 345 to +67 890"])
def test_numbers_of_their_shape_are_not(scrubbed: Scrubbed, text: str) -> None:
    assert scrubbed(text) == text


@pytest.mark.parametrize("label", ["住院号", "住院号：", "Patient ID: ", "Hospital No. "])
def test_a_record_number_may_look_like_a_year_and_two_digits(scrubbed: Scrubbed, label: str) -> None:
    assert scrubbed(f"{label}196753, 男") == f"{label}⟨RECORD⟩, 男"
    assert scrubbed(f"{label}1967-05-03, 男") == f"{label}1967-05-03, 男"


@pytest.mark.parametrize(
    ("form", "scrubbed_form"),
    [
        ("MRN: 1234567\nPatient status: stable", "MRN: ⟨RECORD⟩\nPatient status: stable"),
        ("MRN: 1234567 M, 45 years", "MRN: ⟨RECORD⟩ M, 45 years"),
        ("Tel: 555-0123\tBP: 120/80 mmHg", "Tel: ⟨PHONE⟩\tBP: 120/80 mmHg"),
        ("Tel: 555-0123 BP: 120/80 mmHg", "Tel: ⟨PHONE⟩ BP: 120/80 mmHg"),
        ("MRN: 19240422 | Sex: F", "MRN: ⟨RECORD⟩ | Sex: F"),
        ("病案号：20750517。性别：女", "病案号：⟨RECORD⟩。性别：女"),
        ("Attending physician: Ann B. Toskala. Weight: 65 kg", "Attending physician: ⟨NAME⟩ Weight: 65 kg"),
        ("Attending physician: Ann Toskala Weight: 65 kg", "Attending physician: ⟨NAME⟩ Weight: 65 kg"),
        ("Address: 7 Oak Avenue, Ulm, TX 78701, BP: 120/80", "Address: ⟨ADDRESS⟩, BP: 120/80"),
        ("Fax: 555-0123. Name: Ann Toskala", "Fax: ⟨PHONE⟩. Name: ⟨NAME⟩"),
        ("地址 不详\t条码 769592793578\t总数 9", "地址 不详\t条码 769592793578\t总数 9"),
        ("地址 青山路7号\t条码 7695927", "地址 ⟨ADDRESS⟩\t条码 7695927"),
        ("Sample size: 13800138000", "Sample size: 13800138000"),
        ("Fever. Name: Metformin Hydrochloride", "Fever. Name: Metformin Hydrochloride"),
    ],
)
def test_the_next_field_of_a_form_is_no_unit_and_no_part_of_a_name(
    scrubbed: Scrubbed, form: str, scrubbed_form: str
) -> None:
    assert scrubbed(form) == scrubbed_form


@pytest.mark.parametrize("name", ["付强涛", "巩志华", "邝思远", "沙梅"])
def test_common_surnames_are_known(scrubbed: Scrubbed, name: str) -> None:
    assert scrubbed(f"联系人：{name}，电话见下") == "联系人：⟨NAME⟩，电话见下"


@pytest.mark.parametrize("word", ["付款", "付费", "巩膜", "沙眼"])
def test_words_that_begin_like_a_name_are_none(scrubbed: Scrubbed, word: str) -> None:
    assert scrubbed(f"联系人：{word}，电话见下") == f"联系人：{word}，电话见下"


@pytest.mark.parametrize("unit", ["bases", "subjects", "individuals", "samples", "copies", "例", "碱基"])
def test_a_count_of_something_is_no_telephone(scrubbed: Scrubbed, unit: str) -> None:
    assert scrubbed(f"There were 13800138000 {unit} in all.") == f"There were 13800138000 {unit} in all."
    assert "⟨PHONE⟩" in scrubbed("Call 13800138000 in all cases.")


@pytest.mark.parametrize(
    "text",
    [
        "全县新农合参保123456人，其中男60000人。",
        "城镇职工医保（UEBMI）12345人",
        "参保人员12345名",
        "参保 12345 户（含低保）",
        "病案123456册",
        "Medicare 123456 enrollees",
        "policy 123456 holders",
    ],
)
def test_a_count_of_the_insured_is_no_number_of_theirs(scrubbed: Scrubbed, text: str) -> None:
    assert scrubbed(text) == text


@pytest.mark.parametrize("field", ["人流术后", "人员类别：职工", "名称：内科", "户口：本地", "次日出院"])
def test_a_field_that_begins_like_a_count_is_none(scrubbed: Scrubbed, field: str) -> None:
    assert scrubbed(f"住院号：1234567 {field}") == f"住院号：⟨RECORD⟩ {field}"


@pytest.mark.parametrize(
    "numbers",
    [
        "13812345678/13912345678",
        "+86 13812345678／+86 13912345678",
        "138-1234-5678 / 139-1234-5678",
        "010-65123456/65123457",
        "010-65123456/13812345678/13912345678",
    ],
)
def test_numbers_with_a_slash_between_them_are_telephone_numbers(scrubbed: Scrubbed, numbers: str) -> None:
    assert scrubbed(f"王医生 {numbers}，周一至周五") == "王医生 ⟨PHONE⟩，周一至周五"


@pytest.mark.parametrize("text", ["13812345678/12", "10.1016/13812345678/13912345678", "13812345678/13912345678 cells"])
def test_a_ratio_is_no_telephone(scrubbed: Scrubbed, text: str) -> None:
    assert scrubbed(text) == text


@pytest.mark.parametrize("label", ["病案号（住院）：", "住院号(必填): ", "护照号（有效）："])
def test_a_remark_may_stand_between_a_label_and_its_number(scrubbed: Scrubbed, label: str) -> None:
    assert scrubbed(f"{label}12345678，男") in (f"{label}⟨RECORD⟩，男", f"{label}⟨ID⟩，男")


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


@pytest.mark.parametrize(
    "chosen",
    [ScrubSettings(kinds=("PHONE",)), ScrubSettings(keep=("a.b@example.com", "王小明"))],
)
def test_the_context_has_no_personal_data_that_the_settings_let_stay(row: Row, chosen: ScrubSettings) -> None:
    text = "⟨PHONE⟩ 联系人：王小明，电话13800138000，邮箱 a.b@example.com，另电 13900139000"
    outcome, findings = scrub_for_review(row(text), chosen)
    assert outcome.row is not None
    assert "王小明" in outcome.row["messages"][0]["content"]
    assert [one.kind for one in findings] == ["PHONE"] * 2
    assert findings[0].context == "⟨PHONE⟩ 联系人：⟨NAME⟩，电话⟨PHONE⟩，邮箱 ⟨EMAIL⟩，另电 ⟨PHONE⟩"


def test_the_context_is_as_long_as_set(row: Row) -> None:
    _, findings = scrub_for_review(
        row("甲乙丙丁 13800138000 戊己庚辛。其余从略，其余从略。"), ScrubSettings(review_context=3)
    )
    assert findings[0].context == "丙丁 ⟨PHONE⟩ 戊己"


def test_the_time_for_a_directory_grows_with_its_length() -> None:
    def seconds(entries: int) -> float:
        text = "王医生 13800138000，" * entries
        begin = time.process_time()
        assert scrub_text(text, QUICK)[0].count("⟨PHONE⟩") == entries
        return time.process_time() - begin

    # 15 times as long; comparing each finding with all others takes some 60 times as long.
    assert seconds(12_000) < 30 * min(seconds(800) for _ in range(3))


def test_the_step_goes_to_other_processes(row: Row) -> None:
    step, settings_, made = pickle.loads(pickle.dumps((scrub, DEFAULTS, row("电话13800138000，请于周一至周五来电"))))
    outcome = step(made, settings_)
    assert pickle.loads(pickle.dumps(outcome)) == outcome
    assert outcome.marks == {"PHONE": 1}
