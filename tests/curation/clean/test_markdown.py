from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medllm_ops.curation.clean.markdown import without_markdown


def plain(text: str) -> str:
    return without_markdown(text, Counter())


@pytest.mark.parametrize(
    "text",
    [
        "*P < .05; **P < .01; ***P < .001",
        "**P<.01,**P<.05",
        "CYP2C9*2, HLA-B*57:01, 2**3",
        "# of patients",
        "#1 cause of death",
        "- item\n* item\n+ item\n1. item",
        "| Drug | Dose |\n|---|---|\n| A | 5 mg |",
        "as shown [12](34) and [3]",
        r"\frac{a}{b} \_ \* x",
        r"\( p < .05 \)",
        r"\[ E = mc^2 \]",
        "```\n## Comment\nx = 2 **a** 3\n```",
        "snake_case and __init__",
        "5 - 10 - 15",
    ],
)
def test_what_is_no_remnant_stays(text: str) -> None:
    assert plain(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"age \> 18 \[31\], HLA-B\*57:01, CD4\+", "age > 18 [31], HLA-B*57:01, CD4+"),
        ("**糖尿病**是慢性病，**Dose**: 5", "糖尿病是慢性病，Dose: 5"),
        ("## Results ##\n# Methods\n### 结论", "Results\nMethods\n结论"),
        ("## C# and F#", "C# and F#"),
        ('see [the trial](https://x.y/z "t") or [this](/a)', "see the trial or this"),
        ("before ![scan](scan.png) after", "before  after"),
        ("a\n---\nb\n* * *\nc\n=====\nd", "a\nb\nc\nd"),
    ],
)
def test_remnants_lose_their_marks(text: str, expected: str) -> None:
    assert plain(text) == expected


def test_what_was_done_is_counted() -> None:
    marks: Counter[str] = Counter()
    without_markdown("# A\n**b** [c](/d) \\> \n---\n", marks)
    assert marks == {f"markdown.{rule}": 1 for rule in ("heading", "bold", "link", "escape", "rule")}


@pytest.mark.parametrize(
    "text", ["## x" + " " * 100_000 + "y", "[" * 100_000, "**a" * 50_000, "- " * 100_000 + "x", "\\(" * 50_000]
)
@pytest.mark.timeout(60)  # what is quadratic takes minutes
def test_no_text_takes_long(text: str) -> None:
    assert plain(text) is not None


@given(st.text(st.sampled_from("*#[]()\\-_ =\n5甲x/")))
def test_numbers_and_words_survive(text: str) -> None:
    kept = {c: plain(text).count(c) for c in "5甲"}
    links = "](" in text
    assert links or kept == {c: text.count(c) for c in "5甲"}
