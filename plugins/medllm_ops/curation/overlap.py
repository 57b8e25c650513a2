"""The n-grams of evaluation sets, and where they stand in a text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from medllm_ops.curation.duplicates.normalise import nfkc
from medllm_ops.curation.evalsets import FIELDS, Item
from medllm_ops.curation.evalsets import Field as ItemField
from medllm_ops.curation.grams import Codes, character_codes, run_hashes, word_codes

Tokens: TypeAlias = Sequence[str]

_UNSPACED: Final = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_HAS_UNSPACED: Final = re.compile(f"[{_UNSPACED}]")
_NO_WORD: Final = re.compile(r"[\W_]+")
_WORDS: Final = re.compile(f"[^\\W_{_UNSPACED}]+")
# ASCII as findall would have it, four times as fast.
_ASCII_WORDS: Final = bytes(ord(chr(c).lower()) if chr(c).isalnum() else 32 for c in range(128)) + bytes(
    range(128, 256)
)
_SLOT_BITS: Final = 24


class Gram(BaseModel):
    """How long an overlap must be."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = Field(ge=2, le=200, description="Units in an n-gram.")
    shortest: int = Field(ge=2, le=200, description="A question shorter than an n-gram counts as one from here on.")

    @model_validator(mode="after")
    def _ordered(self) -> Gram:
        if self.shortest > self.size:
            raise ValueError(f"shortest ({self.shortest}) is more than size ({self.size})")
        return self


class DecontaminationSettings(BaseModel):
    """The step of decontamination; docs/curation/decontaminate.md gives the reasons."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # GPT-3 (Brown et al. 2020, arXiv:2005.14165, appendix C): n-grams of 8 to 13 words, by the length of the examples.
    words: Gram = Field(default=Gram(size=13, shortest=8), description="Texts of words, such as English ones.")
    # A Chinese word has 1.6 characters: 13 words are 20 of them, and 8 are 13.
    characters: Gram = Field(default=Gram(size=20, shortest=13), description="Chinese and Japanese texts.")
    # GPT-3, appendix C, as NeMo Curator has it (max_matches): what stands in more than 10 documents is a common phrase.
    common: int = Field(default=10, ge=0, description="An n-gram in more rows than this tells nothing; 0: no limit.")
    # Llama 2 (Touvron et al. 2023, arXiv:2307.09288, appendix A.6): a sample is dirty with 80 % of it in n-grams.
    share: float = Field(
        default=0.8,
        gt=0,
        le=1,
        description="A row with this share of the n-grams of an item, or of its question, goes, common ones or not.",
    )
    fields: tuple[ItemField, ...] = Field(default=FIELDS, description="What of an item counts.")


def characters_of(text: str) -> str:
    """The characters that are compared: no white space, no punctuation."""
    return _NO_WORD.sub("", _folded(text))


def words_of(text: str) -> list[str]:
    """The words that are compared: without punctuation; Chinese between them ends a word."""
    if text.isascii():
        return text.encode().translate(_ASCII_WORDS).decode().split()
    return _WORDS.findall(_folded(text))


def is_unspaced(text: str) -> bool:
    """Whether a text is compared by characters, too."""
    return not text.isascii() and _HAS_UNSPACED.search(text) is not None


def _folded(text: str) -> str:
    return (text if text.isascii() else nfkc(text)).lower()


class Found(NamedTuple):
    """An n-gram of the index in a text: its number, and its tokens from a place to a place."""

    gram: int
    begin: int
    end: int


class GramIndex:
    """The n-grams of the items of evaluation sets in one unit.

    :param numbers: of the items, for :attr:`items`.
    """

    def __init__(
        self, items: Iterable[tuple[int, Item]], gram: Gram, fields: Sequence[ItemField], *, words: bool
    ) -> None:
        self._gram = gram
        self._words = words
        self._numbers: dict[str, int] = {}
        self._sizes: dict[str, set[int]] = {}
        self.items: list[list[int]] = []
        """For each n-gram the items that have it."""
        self.asked: list[list[int]] = []
        """For each n-gram the items in whose question it stands."""
        self.counts: dict[int, int] = {}
        """For each item how many different n-grams it has."""
        self.questions: dict[int, int] = {}
        """For each item how many different n-grams its question has."""
        for number, item in items:
            grams = {name: set(self._of_field(item, name)) for name in fields}
            question = grams.get("question", set())
            every = set().union(*grams.values())
            for one in sorted(every):
                self._add(one, number, asked=one in question)
            self.counts[number], self.questions[number] = len(every), len(question)

    def _of_field(self, item: Item, field: ItemField) -> Iterable[tuple[int, str]]:
        return (one for name, text in item.texts if name == field for one in self._grams(text, field))

    def _grams(self, text: str, field: str) -> Iterable[tuple[int, str]]:
        tokens: Tokens = words_of(text) if self._words else characters_of(text)
        if not self._words and not is_unspaced(text):
            return
        if len(tokens) >= self._gram.size:
            for begin in range(len(tokens) - self._gram.size + 1):
                yield self._gram.size, self._key(tokens[begin : begin + self._gram.size])
        elif field == "question" and len(tokens) >= self._gram.shortest:
            yield len(tokens), self._key(tokens)

    def _add(self, gram: tuple[int, str], item: int, *, asked: bool) -> None:
        size, key = gram
        number = self._numbers.setdefault(key, len(self._numbers))
        if number == len(self.items):
            self.items.append([])
            self.asked.append([])
            self._sizes.setdefault(self._first(key), set()).add(size)
        self.items[number].append(item)
        if asked:
            self.asked[number].append(item)

    def _key(self, tokens: Tokens) -> str:
        return " ".join(tokens) if self._words else str(tokens)

    def _first(self, key: str) -> str:
        return " ".join(key.split(" ")[: self._gram.shortest]) if self._words else key[: self._gram.shortest]

    def text(self, gram: int) -> str:
        """The n-gram of a number."""
        return self._keys[gram]

    @cached_property
    def _keys(self) -> list[str]:
        return list(self._numbers)

    def __getstate__(self) -> dict[str, Any]:
        # Slots are by hashes that another process does not share.
        return {name: value for name, value in vars(self).items() if name not in ("_slots", "_keys")}

    def __len__(self) -> int:
        return len(self._numbers)

    @cached_property
    def _slots(self) -> npt.NDArray[np.bool_]:
        slots = np.zeros(1 << _SLOT_BITS, bool)
        firsts: list[Tokens] = [first.split(" ") if self._words else first for first in self._sizes]
        # Each is as long as the shortest: of the runs of all of them in a row, those that begin where one begins.
        hashes = run_hashes(self._codes(firsts), self._gram.shortest)[:: self._gram.shortest]
        slots[_slots_of(hashes)] = True
        return slots

    def _codes(self, texts: Sequence[Tokens]) -> Codes:
        if self._words:
            return word_codes([token for tokens in texts for token in tokens])
        return character_codes("".join(str(text) for text in texts))

    def find(self, texts: Sequence[Tokens]) -> list[list[Found]]:
        """The n-grams of the index in each text of a batch."""
        found: list[list[Found]] = [[] for _ in texts]
        shortest = self._gram.shortest
        lengths = np.array([len(text) for text in texts], np.int64)
        if not self._numbers or lengths.sum() < shortest:
            return found
        ends = np.cumsum(lengths)
        places = np.flatnonzero(self._slots[_slots_of(run_hashes(self._codes(texts), shortest))])
        owners = np.searchsorted(ends, places, side="right")
        inside = places + shortest <= ends[owners]
        begins = places - (ends - lengths)[owners]
        for owner, begin in zip(owners[inside].tolist(), begins[inside].tolist(), strict=True):
            tokens = texts[owner]
            for size in sorted(self._sizes.get(self._key(tokens[begin : begin + shortest]), ())):
                number = self._numbers.get(self._key(tokens[begin : begin + size]))
                if number is not None and begin + size <= len(tokens):
                    found[owner].append(Found(number, begin, begin + size))
        return found


def _slots_of(hashes: Codes) -> npt.NDArray[np.int64]:
    """A slot for each run of tokens. Two runs may share one: what is found is looked at again."""
    return (hashes >> np.uint64(64 - _SLOT_BITS)).astype(np.int64)
