from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medllm_ops.curation.clean.html import speaks_of_code, without_html


def stripped(text: str) -> str:
    return without_html(text, Counter())


@pytest.mark.parametrize(
    "text",
    [
        "p<0.05 and n>10",
        "if a<b and c>d",
        "if a<b>c",
        "survival <i years, age <s> 3",
        "<0.1 mg/L but >5 mg/L",
        "AT&T, R&D, ?a=1&copy=2",
        "<think>about it</think> <sep> <|im_end|>",
        "CD4<sup and more",
    ],
)
def test_what_only_looks_like_html_stays(text: str) -> None:
    assert stripped(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a<br>b<BR/>c", "a\nb\nc"),
        ("<b>Dose</b>: <i>5</i> mg", "Dose: 5 mg"),
        ('<p class="x" id=y>One</p><p>Two', "\nOne\n\nTwo"),
        ('see <a href="http://x.y/?a=1&amp;b=2">there</a>', "see there"),
        ("p &lt; 0.05 &amp; 5&nbsp;&micro;g &#8805; &#x3b1;", "p < 0.05 & 5\xa0µg ≥ α"),
        ("&amp;amp;lt;5", "<5"),
        ("x<!-- y --><script>if (a<b) {}</script><style>p{}</style>z", "xz"),
        ("<ul><li>a</li><li>b</li></ul>", "\n\n- a\n\n- b\n\n"),
    ],
)
def test_tags_and_entities_become_text(text: str, expected: str) -> None:
    assert stripped(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("H<sub>2</sub>O", "H₂O"),
        ("10<sup>-3</sup>, 10<sup>–9</sup>, m<sup>2</sup>", "10⁻³, 10⁻⁹, m²"),
        ("C<sub>max</sub>, 2<sup>nd</sup>, CO<sub>2max</sub>", "Cmax, 2nd, CO2max"),
        ("10<sup>3x</sup>", "10^(3x)"),
        ("5 mg<sup>1,2</sup>", "5 mg^(1,2)"),
        ("log10<sub>2a</sub>", "log10_(2a)"),
    ],
)
def test_what_is_raised_or_lowered_never_becomes_a_plain_number(text: str, expected: str) -> None:
    assert stripped(text) == expected


def test_the_cells_of_a_table_stay_apart() -> None:
    table = "<table><tr><th>Drug</th><th>Dose</th></tr><tr><td>A</td>\n<td>5 mg</td></tr></table>"
    lines = [line for line in stripped(table).split("\n") if line]
    assert lines == ["Drug | Dose", "A | 5 mg"]


def test_what_was_done_is_counted() -> None:
    marks: Counter[str] = Counter()
    without_html("<p>H<sub>2</sub>O &lt;</p><!-- x -->", marks)
    assert marks == {"html.tag": 2, "html.raised_or_lowered": 1, "html.entity": 1, "html.script": 1}


@pytest.mark.parametrize("text", ["```\n<b>\n```", "How does <br> work in HTML?", "<!DOCTYPE html>", "网页的<p>标签"])
def test_a_turn_about_html_is_known(text: str) -> None:
    assert speaks_of_code(text)
    assert not speaks_of_code("a<br>b, take <b>5</b> mg, 服药后")


@pytest.mark.parametrize(
    "text",
    ["<!--" * 50_000, "<script>" * 50_000, "<a b=c " * 50_000, "&amp;" * 50_000 + "&", "<sup>" * 50_000, "<" * 99_999],
)
@pytest.mark.timeout(60)  # what is quadratic takes minutes
def test_no_text_takes_long(text: str) -> None:
    assert stripped(text) is not None


@given(
    st.lists(st.sampled_from(["<b>", "</b>", "<", ">", "p", "5", "&lt;", "&", "amp;", "<br>", "<sup>", "</sup>", " "]))
)
def test_numbers_survive_whatever_stands_around_them(pieces: list[str]) -> None:
    after = stripped("".join(pieces)).translate(str.maketrans("⁵", "5"))
    assert len(re.findall("5", after)) == pieces.count("5")
