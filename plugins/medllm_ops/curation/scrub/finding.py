"""What was found: a span of text, the kind of personal data in it, and the mark that takes its place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

Kind = Literal["EMAIL", "PHONE", "ID", "RECORD", "ADDRESS", "NAME", "ACCOUNT", "INSURANCE", "IP", "URL", "HANDLE"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# Mathematical angle brackets around one of our own words in capitals: no text has them, they have no meaning in
# Markdown, HTML or JSON, and Unicode normalisation (NFC, NFKC) leaves them as they are.
MARK = re.compile(f"⟨(?:{'|'.join(KINDS)})⟩")


@dataclass(frozen=True, slots=True)
class Span:
    """Personal data at ``text[start:end]``, found by the rule named ``rule``."""

    start: int
    end: int
    kind: Kind
    rule: str


Recogniser: TypeAlias = Callable[[str], Iterator[Span]]


def mark(kind: Kind) -> str:
    """The mark of a kind: ``⟨EMAIL⟩``."""
    return f"⟨{kind}⟩"


def shape(value: str) -> str:
    """A value with its characters' classes in place of its characters: 9 digits, a and A letters, 字 Han and others."""
    return "".join(_shape(character) for character in value)


def _shape(character: str) -> str:
    if character.isdecimal():
        return "9"
    if character.isalpha():
        return "字" if character > "ɏ" else "A" if character.isupper() else "a"
    return character
