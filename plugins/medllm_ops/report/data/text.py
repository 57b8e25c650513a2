"""Text of unknown origin, made fit to be looked at."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from markupsafe import Markup, escape

EXCERPT_CHARACTERS: Final = 240
_SHOWN_BEFORE: Final = 40

# Controls, marks of direction, zero-width and private characters, tags, fillers: what cannot be seen, or makes a
# browser show text in another order than it stands there.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ud800-\udfff\ue000-\uf8ff\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb"
    "\U000e0000-\U000e0fff\U000f0000-\U0010ffff]"
    # One letter with a heap of accents covers the lines around it.
    "|[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]{4,}"
)
_MARK = re.compile("⟨[A-Z]+⟩")

_SCRIPTS: Final = (
    ("Han", "\u2e80-\u2fdf\u3005\u3007\u3021-\u3029\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"),
    ("Latin", "A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff"),
    ("digits", "0-9\uff10-\uff19"),
    ("Chinese signs", "\u3001-\u3004\u3008-\u3020\u3030\u30fb\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"),
    ("white space", "\\s"),
    (
        "signs",
        "!-/:-@\\[-`{-~\u2010-\u2027\u2030-\u205e\u2190-\u23ff\u00a1-\u00a9\u00ab-\u00b9\u00bb-\u00bf\u00d7\u00f7",
    ),
)
SCRIPTS: Final = (*(name for name, _ in _SCRIPTS), "other")
_SCRIPT = re.compile("|".join(f"([{characters}])" for _, characters in _SCRIPTS))


def visible(text: str) -> str:
    """The text with ``[U+202E]`` in place of each character that cannot be seen, or that turns others around."""
    return _UNSEEN.sub(lambda match: f"[{_name(match.group())}]", text)


def quoted(text: str) -> Markup:
    """:func:`visible` as markup: such characters, and the marks of scrubbing, stand out."""
    pieces, end = [], 0
    for match in _UNSEEN.finditer(text):
        pieces += [_marked(text[end : match.start()]), Markup('<i class="sign">{}</i>').format(_name(match.group()))]
        end = match.end()
    return Markup("").join([*pieces, _marked(text[end:])])


def _marked(text: str) -> Markup:
    return Markup(_MARK.sub(lambda match: f"<mark>{match.group()}</mark>", str(escape(text))))


def _name(found: str) -> str:
    return f"U+{ord(found):04X}" if len(found) == 1 else f"{len(found)} × U+{ord(found[0]):04X}…"


def excerpt(text: str, begin: int = 0) -> str:
    """A piece of a text from just before ``begin``, with an ellipsis where it was cut."""
    begin = max(0, begin - _SHOWN_BEFORE)
    piece = text[begin : begin + EXCERPT_CHARACTERS]
    return f"{'…' if begin else ''}{piece}{'…' if begin + EXCERPT_CHARACTERS < len(text) else ''}"


def first_difference(one: str, other: str) -> int:
    """Where two texts part."""
    shorter = min(len(one), len(other))
    return next((place for place in range(shorter) if one[place] != other[place]), shorter)


def scripts(characters: Counter[str]) -> dict[str, int]:
    """How many of the characters are of which kind, in the order of :data:`SCRIPTS`."""
    counts = dict.fromkeys(SCRIPTS, 0)
    for character, count in characters.items():
        match = _SCRIPT.match(character)
        counts[SCRIPTS[match.lastindex - 1 if match and match.lastindex else -1]] += count
    return counts
