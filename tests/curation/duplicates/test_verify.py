from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medllm_ops.curation.duplicates.normalise import Unit, compared
from medllm_ops.curation.duplicates.verify import jaccard, shingle_sets


def similarity(one: Any, other: Any, unit: Unit, size: int) -> float:
    return jaccard(shingle_sets(one, unit, size), shingle_sets(other, unit, size))


@pytest.mark.parametrize(
    ("one", "other", "unit", "size", "expected"),
    [
        ("a b c d", "a b c d", Unit.WORDS, 2, 1.0),
        ("a b c d", "a b x d", Unit.WORDS, 2, 1 / 5),
        ("a b c d", "a b x d", Unit.WORDS, 1, 3 / 5),
        ("a b a b a", "a b a", Unit.WORDS, 2, 1.0),
        ("甲乙丙丁", "甲乙丙", Unit.CHARACTERS, 2, 2 / 3),
        ("甲乙", "甲乙丙", Unit.CHARACTERS, 3, 0.0),
        ("甲乙", "甲乙", Unit.CHARACTERS, 3, 1.0),
        ("", "a", Unit.WORDS, 2, 0.0),
        ("a b c\nx y z", "a b c\nx y z", Unit.WORDS, 2, 1.0),
        ("a b c\nx y z", "a b c\nx y w", Unit.WORDS, 2, 1 / 3),
        ("a b c\nx y z", "a b d\nx y z", Unit.WORDS, 2, 1 / 3),
        ("a b c\n", "a b c\nx", Unit.WORDS, 2, 0.0),
        ("\na b c", "\na b c", Unit.WORDS, 2, 1.0),
    ],
)
def test_similarity(one: str, other: str, unit: Unit, size: int, expected: float) -> None:
    assert similarity(one, other, unit, size) == pytest.approx(expected)


@given(st.text("ab "), st.text("ab "), st.integers(1, 4), st.sampled_from(Unit))
def test_it_is_the_share_of_common_shingles(one: str, other: str, size: int, unit: Unit) -> None:
    def shingles(text: str) -> set[tuple[str, ...]]:
        tokens = list(text) if unit is Unit.CHARACTERS else text.split()
        whole = {tuple(tokens[start : start + size]) for start in range(len(tokens) - size + 1)}
        return whole or ({tuple(tokens)} if tokens else set())

    left, right = shingles(one), shingles(other)
    expected = len(left & right) / len(left | right) if left | right else 1.0
    assert similarity(one, other, unit, size) == expected == similarity(other, one, unit, size)


def test_one_instruction_in_common_makes_no_duplicates(chat_row: Callable[..., Any], toys: Any) -> None:
    instruction, polite = " ".join(toys.words(80, 1)), " ".join(toys.words(60, 2))
    one = compared(chat_row("a", instruction, "yes"))
    other = compared(chat_row("b", instruction, "no"))
    assert similarity(one.text, other.text, one.unit, 2) == 0.0
    one = compared(chat_row("a", "is it malaria", polite))
    other = compared(chat_row("b", "what helps a cough", polite))
    assert similarity(one.text, other.text, one.unit, 2) == 0.0
