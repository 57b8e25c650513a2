"""Where a text may be cut, and how good each place is: paragraphs, lines, sentences, clauses, words, characters.

A place is the first character of what comes after the cut. Sentences are those of English and Chinese; no place but
the last resorts lies within a number, a formula, or a bracket.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

_HAN: Final = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_CLOSERS: Final = "\"'”’」』）)】》〉\\]}"
_LONGEST_SPAN: Final = 1000
"""A bracket that is closed later than so many characters on is no bracket but a slip."""
_LONGEST_HEADING: Final = 60

_BREAK: Final = re.compile(r"[ \t\u3000\r]*\n\s*")
_SENTENCE: Final = re.compile(
    f"[。！？｡][{_CLOSERS}]*\\s*"
    f"|(?<=[^\\W\\d_{_HAN}][?!])[{_CLOSERS}]*(?=[{_HAN}])|(?<=[{_HAN}])[?!][{_CLOSERS}]*\\s*"
    f"|[.?!]+[{_CLOSERS}]*\\s+(?=[^\\W_]|[\"'“‘(\\[（【《「$])"
)
_CLAUSE: Final = re.compile(f"[；，、：][{_CLOSERS}]*\\s*|[;,:][{_CLOSERS}]*(?:\\s+|(?<=[{_HAN}].)(?=\\D))|——\\s*")
_WORD: Final = re.compile(f"\\s+|(?<=[{_HAN}])(?=\\w)|(?<=[^\\W\\d_])(?=[{_HAN}])")

# After these a full stop ends no sentence: those of medical and scholarly English. Single letters are initials, and
# the last letters of i.v., e.g., U.S.
_ABBREVIATIONS: Final = frozenset(
    re.findall(
        r"\w+",
        "al approx art ca cf chap dept dr ed eds eq eqs et ex fig figs gen hr hrs inc incl jr lt ltd mr mrs ms no nos "
        "op par pp prof pt pts ref refs resp sec sect sp spp ssp sr st subsp suppl tab tabs temp var vol vols vs wt",
    )
)
_LAST_WORD: Final = re.compile(r"[^\W\d_]+$")
_ENUMERATOR: Final = re.compile(r"(?:^\s*|[\n.:;]\s+|\n|[。：；]\s*)[(（]?\d{1,2}$")
_OPERATORS: Final = frozenset("=<>≤≥≈≠±×÷+*/^~～∼%‰−→∈∝·-–")
_OPENING: Final = "([{（【《「『“‘〈"
_CLOSING: Final = ")]}）】》」』”’〉"
_BRACKET: Final = re.compile(f"[{re.escape(_OPENING + _CLOSING)}]|\n\\s*\n")
_FORMULA: Final = re.compile(
    r"\$\$.{1,1000}?\$\$|\$(?=\S)[^$\n]{1,200}?(?<=\S)\$(?!\d)|\\\(.{1,1000}?\\\)|\\\[.{1,1000}?\\\]"
    r"|\\begin\{(?P<name>\w+\*?)\}.{1,1000}?\\end\{(?P=name)\}",
    re.DOTALL,
)


class Bound(IntEnum):
    """Kinds of places to cut at, the best first."""

    PARAGRAPH = 0
    LINE = 1
    SENTENCE = 2
    CLAUSE = 3
    WORD = 4
    INSIDE = 5
    """A line, a sentence or a clause within a bracket or a formula, or behind a heading."""
    INSIDE_WORD = 6
    """A word there, or beside a number."""
    CHARACTER = 7
    """Between letters, but not within a number or a Latin word."""
    ANYWHERE = 8
    """Between any two characters that are seen as two."""


class Bounds:
    """The places of one text, found as far as they are asked for."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._protected = _protected(text)

    def places(self, kind: Bound, begin: int, end: int) -> list[int]:
        """The places of a kind that lie between two places."""
        found: Iterable[int]
        if kind <= Bound.LINE:
            found = (place for place, one in self._breaks(begin, end) if one == kind)
        elif kind <= Bound.WORD:
            finder = (self._sentences, self._clauses, self._words)[kind - Bound.SENTENCE]
            found = (place for place, good in finder(begin, end) if good)
        elif kind <= Bound.INSIDE_WORD:
            inside = kind == Bound.INSIDE
            every = (self._breaks, self._sentences, self._clauses) if inside else (self._words,)
            found = sorted({place for finder in every for place, _ in finder(begin, end)})
        else:
            found = self._characters(begin, end, anywhere=kind == Bound.ANYWHERE)
        return [place for place in found if begin < place < end]

    def _whole(self, place: int) -> bool:
        """Whether no bracket or formula is around a place."""
        return not self._protected[place]

    def _breaks(self, begin: int, end: int) -> Iterator[tuple[int, Bound | None]]:
        """Lines and paragraphs; none where what a heading announces comes next."""
        for found in _BREAK.finditer(self._text, begin, end):
            kind = Bound.PARAGRAPH if found[0].count("\n") > 1 else Bound.LINE
            good = self._whole(found.end()) and not _is_heading(self._text, found.start())
            yield found.end(), kind if good else None

    def _sentences(self, begin: int, end: int) -> Iterator[tuple[int, bool]]:
        for found in _SENTENCE.finditer(self._text, begin, end):
            full_stop = found[0].startswith(".")
            if full_stop and not _ends_sentence(self._text, found.start(), found.end()):
                continue
            yield found.end(), self._whole(found.end())

    def _clauses(self, begin: int, end: int) -> Iterator[tuple[int, bool]]:
        for found in _CLAUSE.finditer(self._text, begin, end):
            before, after = self._text[found.start() - 1 : found.start()], self._text[found.end() : found.end() + 1]
            number = before.isdigit() and after.isdigit()
            yield found.end(), not number and self._whole(found.end())

    def _words(self, begin: int, end: int) -> Iterator[tuple[int, bool]]:
        for found in _WORD.finditer(self._text, begin, end):
            before, after = self._text[found.start() - 1 : found.start()], self._text[found.end() : found.end() + 2]
            quantity = before.isdigit() or before in _OPERATORS or after[:1] in _OPERATORS or _extends(after[:1])
            yield found.end(), not quantity and self._whole(found.end())

    def _characters(self, begin: int, end: int, *, anywhere: bool) -> Iterator[int]:
        text = self._text
        for place in range(max(begin, 1), end):
            if text[place].isspace() or joined(text, place):
                continue
            if anywhere or not (_is_latin(text[place - 1]) and _is_latin(text[place])):
                yield place


def _is_latin(character: str) -> bool:
    """Whether it is a letter or digit of a word or number that is not to be cut, or joins two."""
    return character in ".," or (character.isalnum() and not "\u2e80" <= character <= "\U0003ffff")


def _is_heading(text: str, end: int) -> bool:
    """Whether the line that ends here is a heading: what it announces comes next."""
    begin = text.rfind("\n", 0, end) + 1
    line = text[begin:end].strip()
    if not 0 < len(line) <= _LONGEST_HEADING:
        return False
    return line[0] == "#" or line[-1] in ":：" or (line[0] in "【[" and line[-1] in "】]")


def _ends_sentence(text: str, begin: int, end: int) -> bool:
    before = text[max(0, begin - 24) : begin]
    word = _LAST_WORD.search(before)
    if word and (len(word[0]) == 1 or word[0].lower() in _ABBREVIATIONS):
        return False
    if text[end : end + 1].islower():
        return False
    return not _ENUMERATOR.search(before)


def _protected(text: str) -> npt.NDArray[np.bool_]:
    """For each place whether a bracket or a formula is open there."""
    change = np.zeros(len(text) + 2, np.int64)
    for begin, end in [*_brackets(text), *(found.span() for found in _FORMULA.finditer(text))]:
        change[begin + 1] += 1
        change[end] -= 1
    protected: npt.NDArray[np.bool_] = np.cumsum(change) > 0
    return protected


def _brackets(text: str) -> Iterator[tuple[int, int]]:
    """The spans from an opening bracket to its closing one, both included, within a paragraph."""
    opened: list[tuple[str, int]] = []
    for found in _BRACKET.finditer(text):
        sign, place = found[0], found.start()
        if sign in _OPENING:
            opened.append((_CLOSING[_OPENING.index(sign)], place))
        elif sign in _CLOSING:
            closes = [number for number, (closing, _) in enumerate(opened) if closing == sign]
            if closes:
                begin = opened[closes[-1]][1]
                del opened[closes[-1] :]
                if place - begin <= _LONGEST_SPAN:
                    yield begin, place + 1
        else:
            opened.clear()


def _extends(character: str) -> bool:
    """Whether a character is written onto the one before it: marks, joiners, selectors, skin tones."""
    return bool(character) and (
        unicodedata.category(character) in ("Mn", "Mc", "Me")
        or character == "\u200d"
        or "\U0001f3fb" <= character <= "\U0001f3ff"
        or "\uff9e" <= character <= "\uff9f"
        or "\U000e0020" <= character <= "\U000e007f"
    )


def joined(text: str, place: int) -> bool:
    """Whether the characters before and behind a place are seen as one (UAX #29, grapheme clusters)."""
    before, after = text[place - 1], text[place]
    if before.isascii() and after.isascii():
        return before == "\r" and after == "\n"
    if _extends(after) or before == "\u200d" or "\udc00" <= after <= "\udfff":
        return True
    if "\u1100" <= before <= "\ud7fb" and "\u1100" <= after <= "\ud7fb":
        return _joins_hangul(before, after)
    if _is_flag(before) and _is_flag(after):
        first = place - 1
        while first and _is_flag(text[first - 1]):
            first -= 1
        return (place - first) % 2 == 1
    return False


def _is_flag(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _joins_hangul(before: str, after: str) -> bool:
    """Conjoining letters of Korean: lead, vowel and tail of one syllable."""
    if "\u1100" <= before <= "\u115f":
        return "\u1100" <= after <= "\u11a7" or "\uac00" <= after <= "\ud7a3"
    syllable = "\uac00" <= before <= "\ud7a3"
    open_ = "\u1160" <= before <= "\u11a7" or (syllable and (ord(before) - 0xAC00) % 28 == 0)
    if open_:
        return "\u1160" <= after <= "\u11ff"
    return (syllable or "\u11a8" <= before <= "\u11ff") and "\u11a8" <= after <= "\u11ff"


def text_ends(text: str, places: Sequence[int]) -> list[int]:
    """For each place the end of what stands before it, without the white space between."""
    ends = []
    for place in places:
        end = place
        while end and text[end - 1].isspace():
            end -= 1
        ends.append(end)
    return ends
