"""Tokens as the model that is to be trained counts them."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import orjson

from medllm_ops.curation.write.byte_pairs import halves, read_ranks, spell
from medllm_ops.errors import MedllmError
from medllm_ops.files import file_hash

Places: TypeAlias = npt.NDArray[np.int64]

BATCH_CHARACTERS: Final = 1 << 20
"""Texts are tokenised so many characters at a time: a token costs about 150 bytes while it is looked at."""

# Qwen of 2023 (Qwen-14B-Chat) brings ranks and Python code of its own, and no tokenizer.json. The pattern is the one of
# its tokenization_qwen.py, which its successors kept.
_QWEN_RANKS: Final = "qwen.tiktoken"
_QWEN_PATTERN: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class Tokenizer:
    """A tokenizer of the library ``tokenizers``, without special tokens, truncation and padding."""

    def __init__(self, tokenizer: Any) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        description = orjson.loads(tokenizer.to_str())
        # A byte-level tokenizer has no token shorter than a byte, and NFC leaves a normalised text as it is.
        byte_level = '"ByteLevel"' in orjson.dumps(description.get("pre_tokenizer")).decode()
        normalizer = (description.get("normalizer") or {"type": None})["type"]
        self._bounded = byte_level and description["model"]["type"] == "BPE" and normalizer in (None, "NFC")
        self._normalises = normalizer is not None

    def at_most(self, text: str) -> int:
        """No fewer tokens than the text has, found without tokenising it."""
        if not self._bounded:
            return sys.maxsize if text else 0
        if text.isascii():
            return len(text) + 1
        bytes_ = len(text.encode("utf-8", "surrogatepass"))
        # NFC makes a text at most three times as long (UAX #15, table of maximum expansion factors).
        unchanged = not self._normalises or unicodedata.is_normalized("NFC", text)
        return bytes_ * (1 if unchanged else 3) + 1

    def counts(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of each text."""
        return [len(encoding) for encoding in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def begins(self, texts: Sequence[str]) -> list[Places]:
        """For each token of each text the character that it begins in, ascending."""
        encodings = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        return [
            # Bytes of one character share it; the accumulated maximum guards against tokens that stand for nothing.
            np.maximum.accumulate(np.fromiter((begin for begin, _ in one.offsets), np.int64, len(one)))
            for one in encodings
        ]


def tokenizer_hash(folder: Path) -> str:
    """The hash of the file that decides the tokens: ``tokenizer.json``, or Qwen's ranks.

    :raises MedllmError: if there is none.
    """
    for name in ("tokenizer.json", _QWEN_RANKS):
        if (folder / name).is_file():
            return file_hash(folder / name)
    files = sorted(path for path in folder.glob("*") if "token" in path.name or path.suffix in (".model", ".json"))
    if not files:
        raise MedllmError(f"{folder} holds no tokenizer: chunk.tokenizer names the folder of the model to be trained")
    return "-".join(file_hash(path) for path in files)


@cache
def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a model's folder: its ``tokenizer.json``, Qwen's ranks of 2023, or what transformers finds.

    No code that a model brings along is run.

    :raises MedllmError: if there is none, or it cannot be read.
    """
    # Cores are shared out among worker processes, not among threads of each.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import tokenizers

    tokenizer_hash(folder)
    try:
        if (folder / "tokenizer.json").is_file():
            return Tokenizer(tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")))
        if (folder / _QWEN_RANKS).is_file():
            return Tokenizer(_from_ranks(folder / _QWEN_RANKS))
        from transformers import AutoTokenizer

        return Tokenizer(AutoTokenizer.from_pretrained(str(folder)).backend_tokenizer)
    except Exception as error:
        raise MedllmError(f"the tokenizer in {folder} cannot be read: {' '.join(str(error).split())}") from error


def _from_ranks(path: Path) -> Any:
    """Byte pair encoding by ranks, as a list of merges in the order of the ranks."""
    from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers
    from tokenizers import Tokenizer as Library

    ranks = read_ranks(path.read_bytes())
    by_rank = sorted(ranks, key=ranks.__getitem__)
    joined = (halves(token, ranks) for token in by_rank if len(token) > 1)
    merges = [(spell(left), spell(right)) for left, right in joined]
    vocabulary = {spell(token): rank for token, rank in ranks.items()}
    tokenizer = Library(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_QWEN_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
