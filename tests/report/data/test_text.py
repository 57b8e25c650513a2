import unicodedata
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medllm_ops.report.data.text import SCRIPTS, excerpt, first_difference, quoted, scripts, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, 中文。\n\tα ½ é ⟨EMAIL⟩", "plain, 中文。\n\tα ½ é ⟨EMAIL⟩"),
        ("a\u202eb", "a[U+202E]b"),
        ("\x00\x1b[31m\x85\xad", "[U+0000][U+001B][31m[U+0085][U+00AD]"),
        ("\u2066x\u2069\u200f\ufeff\u2028", "[U+2066]x[U+2069][U+200F][U+FEFF][U+2028]"),
        ("\ue000\U000e0041\U0010ffff", "[U+E000][U+E0041][U+10FFFF]"),
        ("Z" + "\u0301" * 9, "Z[9 × U+0301…]"),
        ("e\u0301\u0302", "e\u0301\u0302"),
    ],
)
def test_what_cannot_be_seen_is_shown_as_its_code(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text())
def test_nothing_unseen_is_left_and_nothing_seen_is_lost(text: str) -> None:
    shown = visible(text)
    assert not [
        one for one in shown if unicodedata.category(one) in ("Cc", "Cs", "Co", "Zl", "Zp") and one not in "\n\t"
    ]
    assert not [
        one for one in shown if unicodedata.bidirectional(one) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI")
    ]
    assert visible(shown) == shown


@given(st.text())
def test_a_quotation_holds_no_markup_but_its_own(text: str) -> None:
    markup = str(quoted(text))
    for ours in ("<mark>", "</mark>", '<i class="sign">', "</i>"):
        markup = markup.replace(ours, "")
    assert not set(markup) & set("<>\"'")


def test_marks_and_codes_stand_out() -> None:
    assert str(quoted("a ⟨NAME⟩ <b>\u202e")) == 'a <mark>⟨NAME⟩</mark> &lt;b&gt;<i class="sign">U+202E</i>'


def test_excerpts_say_where_they_were_cut() -> None:
    assert excerpt("short") == "short"
    assert excerpt("x" * 241) == "x" * 240 + "…"
    assert excerpt("a" * 100 + "b" + "c" * 300, 100) == "…" + "a" * 40 + "b" + "c" * 199 + "…"
    assert first_difference("abc", "abd") == 2
    assert first_difference("abc", "ab") == 2
    assert first_difference("", "") == 0


@given(st.text())
def test_each_character_is_of_one_kind(text: str) -> None:
    assert sum(scripts(Counter(text)).values()) == len(text)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("桂枝〇", "Han"),
        ("éß", "Latin"),
        ("09", "digits"),
        ("，。《", "Chinese signs"),
        (" \n\u3000", "white space"),
        ("(-±…", "signs"),
        ("αж\ufffd", "other"),
    ],
)
def test_characters_are_told_by_kind(text: str, kind: str) -> None:
    assert scripts(Counter(text)) == {**dict.fromkeys(SCRIPTS, 0), kind: len(text)}
