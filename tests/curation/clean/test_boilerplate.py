from __future__ import annotations

from collections import Counter

import pytest
from pydantic import ValidationError

from medllm_ops.curation.clean.boilerplate import without_boilerplate
from medllm_ops.curation.clean.settings import BoilerplateSettings

SETTINGS = BoilerplateSettings()


def bare(text: str, *, document: bool = True, settings: BoilerplateSettings = SETTINGS) -> str:
    return without_boilerplate(text, document, settings, Counter())


@pytest.mark.parametrize(
    "line",
    [
        "Skip to main content",
        "Read more »",
        "3 likes",
        "Share on Facebook",
        "Please enable JavaScript to view this page.",
        "Home | Privacy Policy | Terms of Use",
        "ALL RIGHTS RESERVED.",
        "Page 3 of 9",
        "上一篇：消渴",
        "责任编辑：某人",
        "版权所有 某网",
        "未经本站许可，不得转载",
        "扫描二维码关注公众号",
        "【字体：大 中 小】",
        "阅读：123次",
    ],
)
def test_lines_of_pages_go(line: str) -> None:
    assert bare(f"First.\n{line}\nLast.") == "First.\nLast."


@pytest.mark.parametrize(
    "line",
    [
        "Home oxygen",
        "Contacts",
        "Share of patients with a response",
        "Print media exposure",
        "Follow up at 3 months",
        "Email reminders reduce no-shows",
        "Patients had to click here to go on, and 12 of them did so.",
        "上篇·卷一",
        "下一步治疗",
        "关注血压变化",
        "打印的处方",
        "来源：本草",
        "p = 0.03",
        "12.5",
    ],
)
def test_lines_of_text_stay(line: str) -> None:
    text = f"First.\n{line}\nLast."
    assert bare(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It works. © 2020 Some Publisher Ltd. All rights reserved.", "It works."),
        ("It works (n = 12). Copyright 2019 The Authors.", "It works (n = 12)."),
        ("有效。版权所有 2020", "有效。"),
        ("The group (c) had 5 cases. Copyright law matters here.", None),
        ("Cells were © marked and counted.", None),
        ("© 2020 Some Publisher", None),
    ],
)
def test_a_copyright_notice_at_the_end_goes_and_nothing_else(text: str, expected: str | None) -> None:
    assert bare(text) == (text if expected is None else expected)


def test_the_set_closing_of_portals_goes_in_answers_and_the_answer_stays() -> None:
    closing = "以上是对“头痛怎么办？”这个问题的建议，希望对您有帮助，祝您健康！"
    assert bare(f"多休息，多喝水。{closing}", document=False) == "多休息，多喝水。"
    assert bare(f"多休息。\n\n  {closing}\n", document=False) == "多休息。"
    assert bare(closing, document=False) == closing
    assert bare("以上是对病情的分析，每日服5 mg。", document=False) == "以上是对病情的分析，每日服5 mg。"


def test_dialogues_keep_their_lines() -> None:
    assert bare("Menu:\nShare\n3 likes", document=False) == "Menu:\nShare\n3 likes"


def test_users_add_patterns_for_whole_lines() -> None:
    settings = BoilerplateSettings(more_lines=(r"Ward \d+",))
    assert bare("A.\nWard 12\nWard 12 was full.\nB.", settings=settings) == "A.\nWard 12 was full.\nB."
    with pytest.raises(ValidationError, match="no regular expression"):
        BoilerplateSettings(more_lines=("(",))


def test_what_was_done_is_counted() -> None:
    marks: Counter[str] = Counter()
    without_boilerplate("A.\nShare\n3 likes\nB. © 2020 X.", True, SETTINGS, marks)
    assert marks == {"boilerplate.line": 2, "boilerplate.copyright": 1}
