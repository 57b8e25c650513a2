from __future__ import annotations

import string
import unicodedata
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medllm_ops.curation.clean.settings import UnicodeSettings
from medllm_ops.curation.clean.unicode import in_order

SETTINGS = UnicodeSettings()


def ordered(text: str, settings: UnicodeSettings = SETTINGS) -> str:
    return in_order(text, settings, Counter())


@pytest.mark.parametrize(
    "text",
    [
        "H₂O and CO₂",
        "10⁻³ mol, 5 × 10⁹/L, ¹³¹I, cm²",
        "服①一钱②二钱，⑴每日⑵每夜，⒈",
        "1½ tablets, ¼ of a dose",
        "Ⅱ型糖尿病，凝血因子Ⅷ，Ⅳ期",
        "每日３次".replace("３", "3") + "，饭后（温水）服；忌“生冷”。《本草》：「甘」、【方】",
        "℃ ‰ № ℞ ™ ° ± ≤ ≥ ~",
        "𝑃 = 0.03, 𝛼-helix",
        "… and — and – and ′",
        "髙 is rare, 黄𠮷 too, □ and ○ as well",
    ],
)
def test_what_carries_a_meaning_stays_as_it_is(text: str) -> None:
    assert ordered(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("５㎎", "5mg"),
        ("㎍ ㎏ ㎖ ㏄ ㎜", "μg kg ml cc mm"),
        ("㎡ ㎥ ㎧ ㎨ ㏗", "m² m³ m/s m/s² pH"),
        ("每次１０ｍｇ，共３．５％", "每次10mg，共3.5%"),
        ("Ｐ＜０．０５", "P<0.05"),
        ("P﹤0.05﹐P﹥0.1", "P<0.05，P>0.1"),
        ("５－１０ｍｌ／ｋｇ", "5-10ml/kg"),
        ("µg", "μg"),
        ("eﬃcacy of ﬂuids", "efficacy of fluids"),
        ("⼈⽤⺟", "人用" + unicodedata.normalize("NFKC", "⺟")),
        ("甘｡乙､", "甘。乙、"),
        ("IL‑6", "IL-6"),
        ("cafe\u0301, \u212bngström, \u2126", "café, Ångström, Ω"),
        ("\uf9b4 is a compatibility ideograph", "領 is a compatibility ideograph"),
    ],
)
def test_what_is_the_same_thing_written_otherwise_is_written_in_one_way(text: str, expected: str) -> None:
    assert ordered(text) == expected


def test_composing_one_character_leaves_the_formulas_around_it_alone() -> None:
    assert ordered("cafe\u0301: H₂O, 10⁻³, ½, ①, Ⅱ, ，") == "café: H₂O, 10⁻³, ½, ①, Ⅱ, ，"


def test_all_full_width_letters_and_digits_become_plain() -> None:
    plain = string.digits + string.ascii_letters
    assert ordered("".join(chr(ord(character) + 0xFEE0) for character in plain)) == plain


def test_a_full_width_hyphen_or_full_stop_that_is_no_part_of_a_number_stays() -> None:
    assert ordered("甲－－乙。上．下") == "甲－－乙。上．下"
    assert ordered("维生素Ｂ－１２") == "维生素B-12"


@pytest.mark.parametrize("character", ["\ufeff", "\u200b", "\u200d", "\u2060", "\u00ad", "\u202e", "\u2066", "\ufe0f"])
def test_what_cannot_be_seen_goes(character: str) -> None:
    assert ordered(f"{character}as{character}pirin{character}") == "aspirin"


def test_spaces_and_line_ends_are_the_plain_ones() -> None:
    assert ordered("a\u00a0b\u2009c\u3000d\r\ne\rf\u2028g\x0bh\ti") == "a b c d\ne\nf\ng\nh\ti"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5\xad10 mg", "5-10 mg"),  # a soft hyphen that stands for a dash
        ("5\x9610 mg", "5–10 mg"),  # a dash of Windows-1252
        ("\x93quoted\x94 at 5\x85", "“quoted” at 5…"),
        ("5\x1e10 mg", "5-10 mg"),  # Word's hyphen that does not break
        ("take 5\x0010 times", "take 5 10 times"),
        ("5 \uf06dg, \uf0b3 3, \uf061-helix", "5 μg, ≥ 3, α-helix"),  # Word's Symbol font
        ("\uf0b7 one\n\uf0a7\ttwo", "• one\n•\ttwo"),
        ("5 \ue009g", "5 \ufffdg"),
        ("5\ue009 and \U000f00009", "5\ufffd and \ufffd9"),
    ],
)
def test_two_numbers_never_become_one_and_no_unit_is_lost_unseen(text: str, expected: str) -> None:
    assert ordered(text) == expected


def test_private_use_characters_that_stand_for_nothing_go() -> None:
    assert ordered("黄\ue123芪") == "黄芪"
    assert ordered("黄\ue123芪", UnicodeSettings(private_use=False)) == "黄\ue123芪"


def test_without_compatibility_only_what_cannot_be_seen_goes() -> None:
    assert ordered("１０㎎\u200b，５－６", UnicodeSettings(compatibility=False)) == "１０㎎，５－６"


def test_controls_and_lone_surrogates_go_and_are_counted() -> None:
    marks: Counter[str] = Counter()
    assert in_order("a\x07b\ud800c１\u200b", SETTINGS, marks) == "abc1"
    assert marks == {"unicode.controls": 1, "unicode.invisible": 2, "unicode.compatibility": 1}


@given(st.text(st.characters() | st.sampled_from("１．－5 \xad\x1e\uf06d\uf0b7\ue000\u0301e\u212b\r\n㎡﹤\ud800\x96")))
def test_it_is_idempotent_and_whatever_is_left_is_text(text: str) -> None:
    once = ordered(text)
    marks: Counter[str] = Counter()
    assert in_order(once, SETTINGS, marks) == once
    assert not marks
    once.encode()


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"])))
def test_plain_text_is_left_alone(text: str) -> None:
    assert ordered(text) == text


@given(st.text(st.sampled_from("0123456789") | st.characters(max_codepoint=0xFFFF)))
def test_digits_are_never_lost(text: str) -> None:
    assert sum(c in "0123456789" for c in ordered(text)) >= sum(c in "0123456789" for c in text)
