from __future__ import annotations

import itertools

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from medllm_ops.curation.write.bounds import Bound, Bounds, joined

LETTERS = st.sampled_from(
    [*"ab1 \r\n.中。é", "\u0301", "\u200d", "👩", "👧", "🏽", "🇨", "🇳", "각", "ᄀ", "ᅡ", "ᆨ", "か", "ﾞ"]
)


def cuts(text: str, kind: Bound) -> list[str]:
    """The text with a bar at each place."""
    places = [0, *Bounds(text).places(kind, 0, len(text)), len(text)]
    return [text[begin:end] for begin, end in itertools.pairwise(places)]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("It works. We saw it. 5 died.", ["It works. ", "We saw it. ", "5 died."]),
        ("Fever (39.5 °C) fell. See Fig. 2 and Dr. Who et al. They left.", None),
        ("See Fig. 2 of Smith et al. Here vs. There, i.v. Only, J. Smith.", ["*"]),
        ("p < 0.05. The rest", ["p < 0.05. ", "The rest"]),
        ("Really?! \"Yes.\" (Yes.) 'So.' End", ["Really?! ", '"Yes." ', "(Yes.) ", "'So.' ", "End"]),
        ("rate of 3. of all", ["*"]),
        ("Steps: 1. Wash. 2. Dry. 3. Go.", ["Steps: 1. Wash. ", "2. Dry. ", "3. Go."]),
        ("发热三日。咳嗽！“何也？”曰：“外感。”治之。", ["发热三日。", "咳嗽！", "“何也？”", "曰：“外感。”", "治之。"]),
        ("先煎（三碗。两碗。）后下。", ["先煎（三碗。两碗。）", "后下。"]),
        ("好吗?好!用a.b", ["好吗?", "好!", "用a.b"]),
    ],
)
def test_sentences(text: str, sentences: list[str] | None) -> None:
    if sentences is None:
        sentences = ["Fever (39.5 °C) fell. ", "See Fig. 2 and Dr. Who et al. They left."]
    assert cuts(text, Bound.SENTENCE) == ([text] if sentences == ["*"] else sentences)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a, b; c: d", ["a, ", "b; ", "c: ", "d"]),
        ("1,000 and 10:30 and 1：2", ["*"]),
        ("发热，咳嗽；无汗、恶寒", ["发热，", "咳嗽；", "无汗、", "恶寒"]),
        ("f(a, b), c", ["f(a, b), ", "c"]),
        ("设 $x, y$, 则", ["设 $x, y$, ", "则"]),
        (r"so \(a, b\), and \[c, d\], e", [r"so \(a, b\), ", r"and \[c, d\], ", "e"]),
    ],
)
def test_clauses(text: str, parts: list[str]) -> None:
    assert cuts(text, Bound.CLAUSE) == ([text] if parts == ["*"] else parts)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("two words", ["two ", "words"]),
        ("took 5 mg daily", ["took ", "5 mg ", "daily"]),
        ("if p < 0.05 or x = 3", ["if ", "p < 0.05 or ", "x = 3"]),
        ("10 ± 3 years", ["*"]),
        ("黄芪30g水煎", ["黄", "芪", "30g", "水", "煎"]),
        ("服10片后", ["服", "10片", "后"]),
        ("a (b c) d", ["a ", "(b c) ", "d"]),
    ],
)
def test_words_stay_with_their_numbers(text: str, parts: list[str]) -> None:
    assert cuts(text, Bound.WORD) == ([text] if parts == ["*"] else parts)


def test_lines_and_paragraphs() -> None:
    text = "One\n\n  Two:\n1. a\n2. b\n\n\n# Head\n\nlast\n"
    assert cuts(text, Bound.PARAGRAPH) == ["One\n\n  ", "Two:\n1. a\n2. b\n\n\n", "# Head\n\nlast\n"]
    assert cuts(text, Bound.LINE) == ["One\n\n  Two:\n1. a\n", "2. b\n\n\n# Head\n\nlast\n"]


def test_a_bracket_that_is_never_closed_protects_nothing() -> None:
    assert cuts("(one two\n\nthree four) five", Bound.WORD)[0] == "(one "
    far = f"(one, {'x ' * 600})"
    assert cuts(far, Bound.CLAUSE)[0] == "(one, "
    assert cuts(far, Bound.INSIDE)[0] == "(one, "


@given(st.lists(LETTERS, min_size=2, max_size=12).map("".join))
def test_what_is_seen_as_one_character_is_one(text: str) -> None:
    ends = {match.end() for match in regex.finditer(r"\X", text)}
    found = {place for place in range(1, len(text)) if not joined(text, place)}
    # A joiner and a mark that join nothing are left where they are, too.
    assert found == {place for place in ends if place < len(text)} - {
        place for place in range(1, len(text)) if text[place - 1] == "\u200d" or text[place] in "\u0301\u200d🏽ﾞ"
    }


def test_halves_of_a_pair_are_one_character() -> None:
    assert joined("\ud83d\ude00", 1)


@given(st.text(st.sampled_from("ab1 .,;:()（）中文。，“”$\n=<"), max_size=40))
def test_places_lie_inside_and_before_text(text: str) -> None:
    bounds = Bounds(text)
    for kind in Bound:
        for place in bounds.places(kind, 0, len(text)):
            assert 0 < place < len(text)
            assert not text[place].isspace()
