"""Which texts are left out: too short, too repetitive, too many signs, in another language; each with its reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from medllm_ops.curation.clean.language import UNKNOWN, language_of
from medllm_ops.curation.clean.letters import Letters, count_letters
from medllm_ops.curation.clean.repetition import repeated_characters, repeated_lines, repeated_words
from medllm_ops.curation.clean.settings import (
    ChineseLimits,
    CleanSettings,
    EnglishLimits,
    LostSettings,
    RepetitionSettings,
)
from medllm_ops.curation.clean.unicode import LOST

LANGUAGE = "language is not kept"
SHORT = "too short"
LONG = "too long"
REPETITION = "repeats itself"
WORD_LENGTH = "words of odd length"
SYMBOLS = "too many symbols"
BULLETS = "too many bullets"
ELLIPSES = "too many ellipses"
FEW_LETTERS = "too few letters"
FEW_STOP_WORDS = "too few stop words"
FEW_HAN = "too few Han characters"
SHORT_LINES = "lines too short"
LOST_CHARACTERS = "lost characters"
CHAT_MARKS = "marks of a chat template"

# Signs between words become spaces, letters lower case.
_WORDS = bytes(
    0x20
    if code < 0x80 and not chr(code).isalnum() and chr(code) != "'"
    else ord(chr(code).lower())
    if code < 0x80
    else code
    for code in range(256)
)
_STOP_WORDS = frozenset(b"the be to of and that have with".split())
_LETTER = re.compile(rb"[a-z\x80-\xff]")
_BULLET = tuple("-*•●○◦▪■◆‣·–")
_ELLIPSIS = ("...", "…")
_LOST_BESIDE_NUMBER = re.compile(rf"[0-9]\s?{LOST}|{LOST}\s?[0-9]")
# Marks that tokenizers of common models turn into control tokens, also when they stand in the text.
_CHAT_MARK = re.compile(
    r"<\|(?:im_start|im_end|im_sep|endoftext|begin_of_text|end_of_text|start_header_id|end_header_id|eot_id|eom_id"
    r"|user|assistant|system|end|endofprompt|observation)\|>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>"
    r"|<｜(?:begin▁of▁sentence|end▁of▁sentence|User|Assistant)｜>"
)

Drop = tuple[str, str]


@dataclass(frozen=True)
class Measured:
    """A text and what is counted on it, each once and when it is asked for."""

    text: str

    @cached_property
    def data(self) -> bytes:
        """The text in UTF-8."""
        return self.text.encode("utf-8", "replace")

    @cached_property
    def letters(self) -> Letters:
        """Its characters by kind."""
        return count_letters(self.data)

    @cached_property
    def words(self) -> list[bytes]:
        """Its words, in lower case, without signs."""
        return self._spaced.split()

    @cached_property
    def letters_in_words(self) -> int:
        """The characters of all words together."""
        tails = len(self.data) - len(self.text)
        return len(self._spaced) - self._spaced.count(b" ") - tails

    @cached_property
    def _spaced(self) -> bytes:
        return self.data.translate(_WORDS)

    @cached_property
    def counts(self) -> Counter[bytes]:
        """How often each word stands there."""
        return Counter(self.words)

    @cached_property
    def lines(self) -> list[str]:
        """Its lines that are not empty."""
        return [line for line in self.text.split("\n") if line]

    def language(self, han_share: float) -> str:
        """See :func:`~medllm_ops.curation.clean.language.language_of`."""
        letters = self.letters
        latin = letters.latin * 2 > letters.letters
        return language_of(letters, self.counts if latin else (), han_share)


def unusable(text: str, settings: CleanSettings) -> Drop | None:
    """Why nobody may be trained on this text, whatever its kind: lost characters, marks of a chat template."""
    if LOST in text and (drop := _lost(text, settings.lost)):
        return drop
    if settings.chat_marks and ("<" in text or "[" in text) and (mark := _CHAT_MARK.search(text)):
        return CHAT_MARKS, mark.group()
    return None


def _lost(text: str, settings: LostSettings) -> Drop | None:
    if settings.beside_number and (place := _LOST_BESIDE_NUMBER.search(text)):
        return LOST_CHARACTERS, f"beside a number, at character {place.start()}"
    share = text.count(LOST) / len(text)
    return (LOST_CHARACTERS, f"{share:.3f} of all") if share > settings.max_share else None


def language_drop(text: Measured, named: str, settings: CleanSettings) -> tuple[str, str, Drop | None]:
    """What a row's language is to say, the language whose limits hold, and why the row is not kept.

    The language is what the text shows, or else what the row names. A text that shows none (numbers, a name) and
    whose row names none stays.
    """
    seen = text.language(settings.language.han_share)
    language = named if seen == UNKNOWN else seen
    label = language if settings.language.correct else named
    if language != UNKNOWN and language not in settings.language.keep:
        return (
            label,
            language,
            (LANGUAGE, language if seen == UNKNOWN else f"{language}, as its letters and words show"),
        )
    return label, language, None


def document_drop(text: Measured, language: str, settings: CleanSettings) -> Drop | None:
    """Why a document is left out, or None."""
    if language == "zh":
        chinese = settings.chinese
        size = text.letters.letters_and_digits
        if size < chinese.min_characters:
            return SHORT, f"{size} letters and digits"
        if len(text.text) > chinese.max_characters:
            return LONG, f"{len(text.text)} characters"
    else:
        english = settings.english
        size = len(text.words)
        if size < english.min_words:
            return SHORT, f"{size} words"
        if size > english.max_words:
            return LONG, f"{size} words"
    return shares_drop(text, language, settings)


def shares_drop(text: Measured, language: str, settings: CleanSettings) -> Drop | None:
    """Why a document of some length is no text: signs, broken words, repetition. A short one has no shares."""
    if language == "zh":
        if text.letters.visible < settings.chinese.shares_from_characters:
            return None
        drop = _chinese_shares(text, settings.chinese)
    else:
        if len(text.words) < settings.english.shares_from_words:
            return None
        drop = _english_shares(text, settings.english)
    return drop or _repetition(text, language, settings.repetition)


def answer_drop(text: Measured, settings: CleanSettings) -> Drop | None:
    """Why an answer is no text: it says the same twice or more, as answers that models wrote do.

    It may be in another language than its question, be a table, code or a formula, so nothing else is asked.
    """
    if len(text.text) < min(settings.chinese.shares_from_characters, settings.english.shares_from_words):
        return None
    if text.letters.han > settings.language.han_share * text.letters.letters:
        if text.letters.visible < settings.chinese.shares_from_characters:
            return None
        return _repetition(text, "zh", settings.answer_repetition)
    if len(text.words) < settings.english.shares_from_words:
        return None
    return _repetition(text, "en", settings.answer_repetition)


def _repetition(text: Measured, language: str, settings: RepetitionSettings) -> Drop | None:
    found = repeated_lines(text.lines, settings)
    if found is None:
        found = (
            repeated_characters(text.text, settings)
            if language == "zh"
            else repeated_words(text.words, text.counts, settings)
        )
    return (REPETITION, f"{found[0]} {found[1]:.2f}") if found else None


def _english_shares(text: Measured, limits: EnglishLimits) -> Drop | None:
    words, letters = text.words, text.letters
    total = len(words)
    length = text.letters_in_words / total
    if not limits.min_mean_word_length <= length <= limits.max_mean_word_length:
        return WORD_LENGTH, f"{length:.1f} characters on average"
    if (share := letters.letters_and_digits / letters.visible) < limits.min_letters_and_digits:
        return FEW_LETTERS, f"{share:.2f} of the characters are letters or digits"
    if (share := _symbols(text.text) / total) > limits.max_symbols_to_words:
        return SYMBOLS, f"{share:.2f} per word"
    # Words of letters only are counted fast, and are enough in nearly all texts.
    with_letter = sum(map(bytes.isalpha, words))
    if with_letter < limits.min_words_with_letter * total:
        with_letter = sum(_LETTER.search(word) is not None for word in words)
        if (share := with_letter / total) < limits.min_words_with_letter:
            return FEW_LETTERS, f"{share:.2f} of the words have a letter"
    if limits.min_stop_words and (found := len(_STOP_WORDS.intersection(words))) < limits.min_stop_words:
        return FEW_STOP_WORDS, f"{found} different ones"
    if limits.max_bullet_lines < 1 and (share := _starts(text.lines)) > limits.max_bullet_lines:
        return BULLETS, f"{share:.2f} of the lines"
    return _ellipsis_lines(text, limits.max_ellipsis_lines)


def _chinese_shares(text: Measured, limits: ChineseLimits) -> Drop | None:
    letters = text.letters
    if (share := letters.han / letters.visible) < limits.min_han:
        return FEW_HAN, f"{share:.2f} of the characters"
    if (share := letters.letters_and_digits / letters.visible) < limits.min_letters_and_digits:
        return FEW_LETTERS, f"{share:.2f} of the characters are letters or digits"
    if (share := _symbols(text.text) / letters.visible) > limits.max_symbols_to_characters:
        return SYMBOLS, f"{share:.2f} per character"
    if limits.min_mean_line and (mean := letters.visible / len(text.lines)) < limits.min_mean_line:
        return SHORT_LINES, f"{mean:.1f} characters on average"
    return _ellipsis_lines(text, limits.max_ellipsis_lines)


def _symbols(text: str) -> int:
    """Gopher's: the hash, or the ellipsis, whichever there is more of."""
    return max(text.count("#"), text.count("…") + text.count("..."))


def _starts(lines: Sequence[str]) -> float:
    return sum(line.lstrip().startswith(_BULLET) for line in lines) / len(lines)


def _ellipsis_lines(text: Measured, limit: float) -> Drop | None:
    if "…" not in text.text and "..." not in text.text:
        return None
    share = sum(line.rstrip().endswith(_ELLIPSIS) for line in text.lines) / len(text.lines)
    return (ELLIPSES, f"{share:.2f} of the lines end with one") if share > limit else None
