"""Unicode in order: what cannot be seen goes, what can be written in two ways is written in one, no meaning changes.

The exact rule stands in docs/curation/clean.md; its tables in :mod:`medllm_ops.curation.clean.characters`.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

from medllm_ops.curation.clean.characters import (
    COMPATIBILITY,
    COMPATIBLE,
    INVISIBLE,
    INVISIBLES,
    LINE_END,
    LINE_ENDS,
    SPACE,
    SPACES,
    SYMBOL,
    SYMBOL_FONT,
    WINDOWS,
    WINDOWS_1252,
)
from medllm_ops.curation.clean.settings import UnicodeSettings
from medllm_ops.curation.clean.substituted import substituted

CONTROLS = "unicode.controls"
SOFT_HYPHEN = "unicode.soft_hyphen"
PRIVATE_USE = "unicode.private_use"
COMPOSED = "unicode.composed"

LOST = "\ufffd"
"""Stands for a character that was lost; a filter drops texts with many, or with one beside a number."""


def _one_of(characters: Iterable[str]) -> str:
    """A class of a pattern, in ranges: a few ranges are searched faster than many characters."""
    codes = sorted(map(ord, characters))
    ranges: list[list[int]] = []
    for code in codes:
        if ranges and code == ranges[-1][1] + 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "[" + "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges) + "]"


_PRIVATE = [*map(chr, range(0xE000, 0xF900))]
_PRIVATE_PLANES = "\U000f0000-\U0010ffff"
_MARKS = [*map(chr, range(0x300, 0x370))]
# NFC changes these too: compatibility ideographs, Å (Ångström), Ω (Ohm), K (Kelvin), the angle brackets 〈〉.
_SINGLETONS = [*map(chr, range(0xF900, 0xFB00)), "\u212a", "\u212b", "\u2126", "\u2329", "\u232a"]
_CONTROL = [*map(chr, (*range(0x09), *range(0x0E, 0x20), 0x7F))]

_ODD_ASCII = re.compile(_one_of([*_CONTROL, "\r", "\x0b", "\x0c"]))
_ODD = re.compile(
    _one_of(
        {
            *COMPATIBLE, *INVISIBLES, *SPACE, *LINE_END, *WINDOWS, *_CONTROL, *_PRIVATE, *_MARKS, *_SINGLETONS,
            *"\xad－．﹒",
        }
    )[:-1] + _PRIVATE_PLANES + "]"
)  # fmt: skip
_COMPOSABLE = re.compile(_one_of([*_MARKS, *_SINGLETONS]))

_CARRIAGE_RETURN = re.compile(r"\r\n?")
_HYPHEN_BETWEEN_DIGITS = re.compile(r"(?<=[0-9０-９])\xad(?=[0-9０-９])")
_SOFT_HYPHEN = re.compile(r"\xad\n?")
# Word's own hyphen that does not break, and its soft hyphen.
_HARD_HYPHEN = re.compile("\x1e")
_CONTROL_BETWEEN_DIGITS = re.compile(r"(?<=[0-9])[\x00-\x08\x0e-\x1f\x7f]+(?=[0-9])")
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_FULL_STOP_IN_NUMBER = re.compile(r"(?<=[0-9])[．﹒](?=[0-9])")
_FULL_WIDTH_HYPHEN = re.compile(r"(?<=[0-9A-Za-z])－|－(?=[0-9A-Za-z])")
_BULLET = re.compile(r"(?m)^([ \t]*)[\uf06c\uf06e\uf071\uf075-\uf077\uf0a7\uf0a8\uf0b7\uf0d8\uf0e0\uf0fc](?=[ \t])")
_ANY_PRIVATE = re.compile(f"[\ue000-\uf8ff{_PRIVATE_PLANES}]")
_PRIVATE_BESIDE_DIGIT = re.compile(rf"(?<=[0-9]){_ANY_PRIVATE.pattern}|{_ANY_PRIVATE.pattern}(?=[0-9])")
_PRIVATE_IN_NUMBER = re.compile(rf"(?<=[0-9] ){_ANY_PRIVATE.pattern}(?=[A-Za-z])")

_TABLES: tuple[tuple[str, dict[str, str]], ...] = (
    (LINE_ENDS, LINE_END),
    (SPACES, SPACE),
    (INVISIBLE, INVISIBLES),
    (WINDOWS_1252, WINDOWS),
    (COMPATIBILITY, COMPATIBLE),
)
_WHAT = {character: (rule, new) for rule, table in _TABLES for character, new in table.items()}
_WHAT_PATTERN = re.compile(_one_of(_WHAT))
_WHAT_WITHOUT_COMPATIBILITY = re.compile(_one_of(character for character in _WHAT if character not in COMPATIBLE))


def in_order(text: str, settings: UnicodeSettings, marks: Counter[str]) -> str:
    """The text with its characters in order. Idempotent. ``marks`` counts the characters changed, by rule."""
    if (_ODD_ASCII if text.isascii() else _ODD).search(text) is None:
        return text

    def replaced(match: re.Match[str]) -> str:
        rule, new = _WHAT[match.group()]
        marks[rule] += 1
        return new

    text = substituted(_CARRIAGE_RETURN, "\n", text, LINE_ENDS, marks)
    text = (_WHAT_PATTERN if settings.compatibility else _WHAT_WITHOUT_COMPATIBILITY).sub(replaced, text)
    # What is between two numbers must not make one number of them.
    text = substituted(_HYPHEN_BETWEEN_DIGITS, "-", text, SOFT_HYPHEN, marks)
    text = substituted(_SOFT_HYPHEN, "", text, SOFT_HYPHEN, marks)
    text = substituted(_HARD_HYPHEN, "-", text, CONTROLS, marks)
    text = substituted(_CONTROL_BETWEEN_DIGITS, " ", text, CONTROLS, marks)
    text = substituted(_CONTROLS, "", text, CONTROLS, marks)
    if settings.compatibility:
        text = substituted(_FULL_STOP_IN_NUMBER, ".", text, COMPATIBILITY, marks)
        text = substituted(_FULL_WIDTH_HYPHEN, "-", text, COMPATIBILITY, marks)
    if settings.private_use and _ANY_PRIVATE.search(text):
        text = _without_private_use(text, marks)
    if _COMPOSABLE.search(text) and (composed := unicodedata.normalize("NFC", text)) != text:
        marks[COMPOSED] += 1
        text = composed
    return text


def _without_private_use(text: str, marks: Counter[str]) -> str:
    def symbol(match: re.Match[str]) -> str:
        new = SYMBOL.get(match.group())
        if new is None:
            return match.group()
        marks[SYMBOL_FONT] += 1
        return new

    text = substituted(_BULLET, r"\1•", text, SYMBOL_FONT, marks)
    text = _ANY_PRIVATE.sub(symbol, text)
    for pattern, new in ((_PRIVATE_BESIDE_DIGIT, LOST), (_PRIVATE_IN_NUMBER, LOST), (_ANY_PRIVATE, "")):
        text = substituted(pattern, new, text, PRIVATE_USE, marks)
    return text
