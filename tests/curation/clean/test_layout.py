from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medllm_ops.curation.clean.layout import with_white_space_in_order, without_hard_wraps

WRAPPED = """\
The patients were treated with a dose-dependent regimen of the drug that was
given twice daily for a period of twelve weeks, and then they were followed for
another year in the outpatient clinic of the hospital in which all of them were
enrolled. Adverse events were rare; none was serious, and no patient stopped."""

WRAPPED_CHINESE = """\
夫药有寒热之性，病有虚实之分，不可不察也。凡用药者，先审其源
，候其病机，五脏未虚，六腑未竭，血脉未乱，精神未散，服药必活
。若病已成，可得半愈；病势已过，命将难全。治寒以热药，治热以寒
药，饮食不消以吐下药，鬼疰蛊毒以毒药，痈肿疮瘤以疮药，风湿以风
湿药，各随其所宜。"""


def unwrapped(text: str) -> str:
    return without_hard_wraps(text, Counter())


def tidy(text: str, *, document: bool = True) -> str:
    return with_white_space_in_order(text, document, Counter())


def test_lines_that_were_cut_at_a_width_are_joined() -> None:
    assert unwrapped(WRAPPED) == WRAPPED.replace("\n", " ")
    assert unwrapped(WRAPPED_CHINESE) == WRAPPED_CHINESE.replace("\n", "")


def test_paragraphs_and_the_title_stay_apart() -> None:
    text = f"A trial of a drug\n\n{WRAPPED}\n\n{WRAPPED}"
    joined = WRAPPED.replace("\n", " ")
    assert unwrapped(text) == f"A trial of a drug\n\n{joined}\n\n{joined}"


def test_a_hyphen_at_the_end_of_a_line_stays() -> None:
    text = WRAPPED.replace("that was\ngiven twice", "at a low-\ndose twice")
    assert "at a low-dose twice" in unwrapped(text)


@pytest.mark.parametrize(
    "text",
    [
        "四君子汤中和义，参术茯苓甘草比。\n益以夏陈名六君，祛痰补气阳虚饵。\n除祛半夏名异功，或加香砂胃寒使。\n五味异功皆可取，脾虚气滞此方推。",
        "\n".join(f"{number}甲乙之岁少阴司天阳明在泉中见太商之运其化上热中凉下燥" for number in "一二三四五六七"),
        "\n".join(
            f"{drug} was given at a dose of 5 mg twice daily for twelve weeks"
            for drug in ("Aspirin", "Heparin", "Insulin")
        ),
        "\n".join(["* Percentage of participants with a confirmed response [at week 12]"] * 5),
        "Drug 5 10 15 20 25 30 35 40 45 50 55 60 65 70 75 80 85 90\n" * 5,
        "\n".join(
            [
                "治一切虚劳，气血两亏，四肢倦怠，饮食少思，夜卧不安，梦遗盗汗者（又方见后",
                "人参（去芦） 白术（土炒） 茯苓（去皮） 甘草（炙） 熟地黄（酒）（蒸）",
                "上药研末，炼蜜和丸，如梧桐子大，每服五十丸，空心时用温酒或盐汤送下，三服",
                "忌生冷。",
            ]
        ),
        "当归三两 白芍二两 川芎一两 熟地黄四两 人参一两 白术二两 茯苓二两\n上八味，研末为丸。\n每服三钱，白汤下。",
        "INCLUSION: adults of eighteen years or more with a diagnosis of it\n" * 2
        + "EXCLUSION: pregnancy, or a known allergy to one of the drugs here",
    ],
)
def test_verses_lists_tables_and_entries_stay_as_they_are(text: str) -> None:
    assert unwrapped(text) == text


def test_white_space_is_put_in_order() -> None:
    assert tidy("  a  b \n\n\n\n\tc\t\n ") == "a b\n\nc"
    assert tidy("　　甲".replace("　", " ") + "\n  乙") == "甲\n乙"


def test_the_columns_of_a_table_become_tabs_and_stay_apart() -> None:
    table = "Drug      Dose     Route\nAspirin   100 mg   oral\nHeparin   5000 IU  iv"
    assert tidy(table).split("\n") == ["Drug\tDose\tRoute", "Aspirin\t100 mg\toral", "Heparin\t5000 IU\tiv"]
    assert tidy("A sentence.  Another.\nOne more.  And one.") == "A sentence. Another.\nOne more. And one."


def test_lists_keep_their_indentation_and_dialogues_all_of_it() -> None:
    assert tidy("Criteria:\n  * age\n    - adults\n  text") == "Criteria:\n  * age\n    - adults\ntext"
    code = "def f(x):\n    return  x"
    assert tidy(code, document=False) == code
    fenced = "Run:\n```\nif a:\n    b  = 1\n```"
    assert tidy(fenced) == fenced


@given(st.text(st.sampled_from(" \t\na甲.-5　"), max_size=60), st.booleans())
def test_it_is_idempotent_and_loses_only_white_space(text: str, document: bool) -> None:
    once = tidy(text, document=document)
    assert tidy(once, document=document) == once
    assert "".join(once.split()) == "".join(text.split())


@given(st.lists(st.text(st.sampled_from("ab c甲，。-"), max_size=40), max_size=8))
def test_joining_loses_only_line_ends(lines: list[str]) -> None:
    text = "\n".join(lines)
    assert "".join(unwrapped(text).split()) == "".join(text.split())
