"""Text as it comes out of any source: white space and invisible characters in order, nothing else changed.

What could change a meaning (NFKC in a formula, private-use characters) is left to curation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import orjson

# Unicode 15, "Default_Ignorable_Code_Point" without the variation selectors, the controls C0 and C1 (white space
# among them is gone before this table is used), the bidirectional controls, and lone surrogates, which are not text.
_INVISIBLE: tuple[Iterable[int], ...] = (
    range(0x20),
    range(0x7F, 0xA0),
    (0xAD, 0x034F, 0x061C, 0x180E, 0xFEFF),
    range(0x200B, 0x2010),
    range(0x202A, 0x202F),
    range(0x2060, 0x2070),
    range(0xFFF9, 0xFFFC),
    range(0xD800, 0xE000),
)
_REMOVE = dict.fromkeys(code for codes in _INVISIBLE for code in codes)

# orjson reads 1,024 levels and writes 254.
_DEEPEST = 100

# The last label in lower case: "Fe3O4@SiO2.Significance" is chemistry. Lengths are bounded as those of real addresses
# are: a sequence of bases beside an address would cost the square of its length.
_MAIL_ADDRESS = re.compile(
    r"(?:\b(?:[Cc]ontacts?|CONTACTS?|[Ee]-?mail|[Cc]orrespondence)\s*:?\s*)?"
    r"(?:mailto:)?[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){0,8}\.[a-z]{2,24}\b[;,.]?"
)
_TELEPHONE_MARKS = ("hone", "Tel", "tel.", "tel:", "Fax", "fax")
# A colon, a plus sign or an abbreviation makes digits a number to call: years follow "by telephone", too.
_TELEPHONE = re.compile(
    r"\b(?:tel\b\.?|fax\b\.?|telephone|phone)(?: (?:number|no\.?))?\s*(?::|(?=\+)|(?<=\.))\s*"
    r"\+?\(?\d(?:[ ().\-–/]{0,3}\d){6,14}(?!\w)[;,.]?",
    re.IGNORECASE,
)
_COPYRIGHT_MARKS = ("©", "(c)", "(C)", "opyright", "OPYRIGHT", "ights reserved")
_LONGEST_COPYRIGHT = 1_000
_STATEMENT = (
    r"[\[(]?(?:Crown )?(?:(?:copyright )?©|(?:copyright\b|\(c\)\s*(?=(?:19|20)\d\d))"
    r"(?=.{0,80}(?:\b(?:19|20)\d\d\b|\bAll rights reserved)))"
)
# A statement ends the paragraph, and soon, unless it tells the terms of a licence.
_TO_THE_END = r"(?:.{0,200}|(?=.*\b(?:licen[cs]e|Creative Commons|rights reserved)\b).{0,900})"
_COPYRIGHT = re.compile(
    r"\s*\(PsycINFO Database Record[^()]*\(c\)[^()]*\)\.?$"
    r"|(?:(?<=[.!?)\]])\s+|^)"
    rf"(?:{_STATEMENT}{_TO_THE_END}|(?:Published by [^.]{{1,60}}\.? )?All rights reserved\.?)$",
    re.IGNORECASE,
)


def tidy_line(text: str) -> str:
    """Return ``text`` as one line.

    Every run of white space (newlines, NBSP, thin and ideographic spaces) becomes one space, the ends are trimmed,
    zero-width characters, soft hyphens and controls go. Zero-width joiners go too: right for the English and
    Chinese of our sources, wrong for Persian or Hindi.
    """
    # All that is removed, and all white space but the plain space, is unprintable: most lines end here.
    if text.isprintable() and "  " not in text:
        return text.strip(" ")
    return " ".join(" ".join(text.split()).translate(_REMOVE).split())


def tidy_lines(text: str) -> str:
    """Return ``text`` with each line as :func:`tidy_line` makes it, without the empty ones.

    Lines end at LF, CR LF or CR; U+2028 and its kin are white space inside a line.
    """
    lines = (tidy_line(line) for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
    return "\n".join(line for line in lines if line)


def excerpt(raw: bytes | str, characters: int = 200) -> str:
    """Return the beginning of raw input on one line, for a reject; bytes that are not UTF-8 show as U+FFFD."""
    head = raw[: characters * 4]
    text = head if isinstance(head, str) else head.decode("utf-8", "replace")
    return tidy_line(text)[:characters]


def as_json(value: Any) -> bytes:
    """The value, as orjson read it, as JSON for a reject; ``"…"`` stands for what is nested too deeply to show."""
    return orjson.dumps(_shallow(value, _DEEPEST))


def _shallow(value: Any, levels: int) -> Any:
    if isinstance(value, dict):
        return {key: _shallow(inner, levels - 1) for key, inner in value.items()} if levels else "…"
    if isinstance(value, list):
        return [_shallow(inner, levels - 1) for inner in value] if levels else "…"
    return value


def without_mail_addresses(text: str) -> str:
    """Return one line of text without e-mail addresses and the ``Contact:`` or ``E-mail:`` before them."""
    return tidy_line(_MAIL_ADDRESS.sub(" ", text)) if "@" in text else text


def without_telephone_numbers(text: str) -> str:
    """Return one line of text without the numbers that ``Tel.:``, ``phone:`` or ``fax`` stand before."""
    if any(mark in text for mark in _TELEPHONE_MARKS):
        return tidy_line(_TELEPHONE.sub(" ", text))
    return text


def without_copyright(text: str) -> str:
    """Return one line of text without a copyright statement at its end, as publishers append to abstracts."""
    end = text[-_LONGEST_COPYRIGHT:]
    # Some plain searches cost a tenth of one with a pattern.
    if any(mark in end for mark in _COPYRIGHT_MARKS):
        return _COPYRIGHT.sub("", text)
    return text
