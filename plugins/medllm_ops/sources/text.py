"""Text as it comes out of any source: white space and invisible characters in order, nothing else changed.

What could change a meaning (NFKC in a formula, private-use characters) is left to curation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

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

# The last label in lower case: "Fe3O4@SiO2.Significance" is chemistry.
_MAIL_ADDRESS = re.compile(
    r"(?:\b(?:[Cc]ontacts?|CONTACTS?|[Ee]-?mail|[Cc]orrespondence)\s*:?\s*)?"
    r"(?:mailto:)?[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[a-z]{2,24}\b[;,.]?"
)
_LONGEST_COPYRIGHT = 300
_COPYRIGHT = re.compile(
    r"\s*\(PsycINFO Database Record[^()]*\(c\)[^()]*\)\.?$"
    r"|(?:(?<=[.!?)\]])\s+|^)(?:copyright\b|©|\(c\)\s*(?=(?:19|20)\d\d))(?=.{0,80}\b(?:19|20)\d\d\b).{0,200}$",
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


def without_mail_addresses(text: str) -> str:
    """Return one line of text without e-mail addresses and the ``Contact:`` or ``E-mail:`` before them."""
    return tidy_line(_MAIL_ADDRESS.sub(" ", text)) if "@" in text else text


def without_copyright(text: str) -> str:
    """Return one line of text without a copyright statement at its end, as publishers append to abstracts."""
    end = text[-_LONGEST_COPYRIGHT:]
    # Five plain searches cost a tenth of one with a pattern.
    if "©" in end or "(c)" in end or "(C)" in end or "opyright" in end or "OPYRIGHT" in end:
        return _COPYRIGHT.sub("", text)
    return text
