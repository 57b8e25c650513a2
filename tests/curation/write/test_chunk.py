from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medllm_ops.curation.write.bounds import joined
from medllm_ops.curation.write.chunk import cut_texts, plan
from medllm_ops.curation.write.tokens import Tokenizer

WORDS = st.sampled_from(
    ["fever", "10", "mg", "p < 0.05", "(see b)", "阿司匹林", "每日", "e\u0301", "👩‍👧", "3.14", "$x+1$"]
)
ENDS = st.sampled_from([" ", ", ", ". ", "。", "，", "\n", "\n\n", "", "  \n \n"])
PROSE = st.lists(st.tuples(WORDS, ENDS).map("".join), max_size=120).map("".join)
ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


def one(text: str, budget: int, tokenizer: Tokenizer) -> list[str] | None:
    return cut_texts([text], [budget], tokenizer)[0]


def without_space(text: str) -> str:
    return "".join(text.split())


@given(PROSE | ANY, st.integers(12, 60))
@settings(max_examples=300)
def test_nothing_is_lost_and_all_fits(tokenizer: Tokenizer, text: str, budget: int) -> None:
    pieces = one(text, budget, tokenizer)
    if pieces is None:
        return
    assert one(text, budget, tokenizer) == pieces
    if tokenizer.counts([text])[0] <= budget:
        assert pieces == [text]
        return
    place = 0
    for piece in pieces:
        begin = text.index(piece, place)
        # Between two pieces is white space, and no half of a character.
        assert not text[place:begin].strip()
        assert piece
        assert piece == piece.strip()
        if begin:
            assert not joined(text, begin)
        place = begin + len(piece)
    assert not text[place:].strip()
    assert max(tokenizer.counts(pieces), default=0) <= budget


@given(st.lists(PROSE | ANY, max_size=5), st.integers(12, 40))
@settings(max_examples=40)
def test_a_batch_changes_nothing(tokenizer: Tokenizer, texts: list[str], budget: int) -> None:
    assert cut_texts(texts, [budget] * len(texts), tokenizer) == [one(text, budget, tokenizer) for text in texts]


def test_paragraphs_before_sentences_before_words(tokenizer: Tokenizer) -> None:
    sentence = "The patient was given the same dose again on the next day. "
    paragraph = (sentence * 3).strip()
    count = tokenizer.counts([paragraph])[0]
    text = f"{paragraph}\n\n{paragraph}\n\n{paragraph}"
    assert one(text, count + 4, tokenizer) == [paragraph] * 3
    assert one(text, 2 * count + 4, tokenizer) in (
        [paragraph, f"{paragraph}\n\n{paragraph}"],
        [f"{paragraph}\n\n{paragraph}", paragraph],
    )
    assert one(sentence * 4, count, tokenizer) == [(sentence * 2).strip()] * 2
    for piece in one(sentence.replace(".", " and") * 20, 40, tokenizer) or []:
        assert set(piece.split()) <= set(sentence.replace(".", " and").split())


def test_chinese_is_cut_behind_its_full_stops(tokenizer: Tokenizer) -> None:
    text = "太阳之为病，脉浮，头项强痛而恶寒。" * 20
    pieces = one(text, 100, tokenizer) or []
    assert len(pieces) > 3
    assert all(piece.endswith("。") and piece.startswith("太阳") for piece in pieces)


@pytest.mark.parametrize(
    "text", ["患者服药后热退" * 300, "x" * 2000, "acgt" * 500, "\U0001f600" * 300, "1234567890" * 90]
)
def test_a_text_without_any_bound_is_cut(tokenizer: Tokenizer, text: str) -> None:
    pieces = one(text, 64, tokenizer)
    assert pieces is not None
    assert "".join(pieces) == text
    counts = tokenizer.counts(pieces)
    assert max(counts) <= 64
    assert min(counts) >= 40


@given(st.lists(st.integers(3, 12), min_size=30, max_size=80), st.sampled_from([120, 150, 200]))
@settings(max_examples=50)
def test_pieces_are_about_equally_long(tokenizer: Tokenizer, lengths: list[int], budget: int) -> None:
    text = " ".join("The " + "dose " * length + "rose." for length in lengths)
    counts = tokenizer.counts(one(text, budget, tokenizer) or [])
    tokens = sum(counts)
    # One piece more than needed at most in five, and none that is a rest.
    assert len(counts) <= -(-tokens // budget) * 1.25 + 1
    assert min(counts) >= 0.4 * tokens / len(counts)
    assert all(piece.endswith("rose.") for piece in one(text, budget, tokenizer) or [])


@pytest.mark.parametrize(
    "whole", ["$a + b + c + d = e$", "(one two three four five)", "p < 0.0000001", "12345.678901 mg"]
)
def test_a_formula_a_bracket_a_number_stay_whole(tokenizer: Tokenizer, whole: str) -> None:
    text = " ".join(f"{'word ' * (number % 7 + 1)}{whole}" for number in range(40))
    pieces = one(text, 50, tokenizer) or []
    assert len(pieces) > 5
    assert sum(piece.count(whole) for piece in pieces) == 40


def test_a_bracket_longer_than_the_budget_is_cut(tokenizer: Tokenizer) -> None:
    text = f"({', '.join(f'item {number}' for number in range(60))})"
    pieces = one(text, 50, tokenizer) or []
    assert " ".join(pieces) == text
    assert all(piece.endswith((",", ")")) for piece in pieces)


def test_white_space_is_no_piece(tokenizer: Tokenizer) -> None:
    blank = "\n \t" * 400
    assert one(f"{blank}a b c{blank}", 20, tokenizer) == ["a b c"]
    text = f"{'one two. ' * 10}{blank}{'three four. ' * 10}"
    pieces = one(text, 50, tokenizer) or []
    assert without_space("".join(pieces)) == without_space(text)
    assert all(pieces)


def test_what_is_seen_as_one_character_and_is_too_long_is_told(tokenizer: Tokenizer) -> None:
    assert one("a" + "\u0301" * 500 + "b" * 300, 100, tokenizer) is None


def test_more_tokens_by_itself_than_within_the_text(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "one two three. " * 40
    plain = one(text, 50, tokenizer) or []
    counts = tokenizer.counts
    monkeypatch.setattr(tokenizer, "counts", lambda texts: [count + 9 for count in counts(texts)])
    pieces = one(text, 50, tokenizer) or []
    assert len(pieces) >= len(plain)
    assert max(counts(pieces)) <= 41
    assert " ".join(pieces) == text.strip()


def test_of_a_text_of_white_space_nothing_is_left(tokenizer: Tokenizer) -> None:
    (begins,) = tokenizer.begins([" \n" * 50])
    assert plan(" \n" * 50, begins, 5) == []
