r"""The body of a section of a 中医世家 text dump as paragraphs.

What the dumps hold besides text, counted on 44 books: ``\r…\pG-G1.bmp\r`` for a picture (with its caption),
``\x…\x`` around what was bold, ``KT``, ``HT`` or ``FS`` for a glyph outside the character set, a space for one that
is missing, and lines wrapped at 38 to 54 characters, each with a space at its end.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from medllm_ops.sources.text import tidy_line

_PICTURE = re.compile(r"(?:\\r[^\\]{0,80}?)?\\p[\w.-]{1,40}?\.(?:bmp|gif|jpe?g|png)(?:\s*\\r)?", re.IGNORECASE)
_BOLD = "\\x"
_GLYPH_CODE = re.compile(r" ?(?<![A-Za-z0-9])(?:[KHF][TS])+(?![A-Za-z0-9]) ?")
_SPACE_AT_MARK = re.compile(r"(?<=[，。、；：∶？！（〔【《「『“]) | (?=[，。、；：∶？！）〕】》」』”])")
_EMPTY_BRACKETS = re.compile(r"（）|〔〕|【】|《》|\(\)")
_BRACKETED = re.compile(r"（[^（）]*）|〔[^〔〕]*〕")
_CLAUSE = re.compile(r"[^，。；！？∶：、（）〔〕【】《》]+")
_HAN_SPACE_HAN = re.compile(r"(?<=[\u3400-\u9fff]) (?=[\u3400-\u9fff])")
_PROSE = re.compile(r"[，。；]")
_ENDS_PARAGRAPH = tuple("。！？；∶：”」』）】〕")
_GOES_ON = ("，", "、")
_SENTENCE_END = re.compile(r"(?<=[。！？；])")
_CLAUSE_END = re.compile(r"(?<=[，、∶：\s])")

_SHORTEST_FULL_LINE = 24
_LONGEST_WRAPPED_LINE = 80
_FULL_SHARE = 0.85


def paragraphs_of(body: str) -> list[str]:
    """The paragraphs of a section's body, cleaned, without empty ones. Depends on nothing outside ``body``."""
    lines = [line.strip() for line in _PICTURE.sub("", body).split("\n")]
    return [cleaned for paragraph in _join(lines) if (cleaned := clean(paragraph))]


def clean(text: str) -> str:
    """One line without marks, private-use and unknown characters, and without the spaces of missing glyphs.

    A space is kept where it separates: between the items of a list, after a heading, behind a bracket.
    """
    text = text.replace(_BOLD, "")
    if not text.isascii():
        text = "".join(c for c in text if c != "\ufffd" and unicodedata.category(c) != "Co")
    text = _GLYPH_CODE.sub("", tidy_line(text))
    text = _EMPTY_BRACKETS.sub("", _SPACE_AT_MARK.sub("", text)).strip()
    return _close_gaps(text) if " " in text else text


def _close_gaps(text: str) -> str:
    """Remove the space in a clause of prose: 「萌 耳」. Lists have several in a row, headings stand first."""
    if not _PROSE.search(_BRACKETED.sub("", text)):
        return text

    def close(clause: re.Match[str]) -> str:
        words = clause.group()
        if clause.start() == 0 or words.startswith(" ") or words.count(" ") != 1:
            return words
        return _HAN_SPACE_HAN.sub("", words)

    return _CLAUSE.sub(close, text)


def _join(lines: list[str]) -> Iterator[str]:
    """Join hard-wrapped lines to paragraphs.

    A line as long as the section's lines get goes on in the next. A shorter one ends its paragraph, unless it is
    prose that breaks off in the middle of a sentence. A wholly bold line is a heading of its own.
    """
    longest = max((len(line) for line in lines), default=0)
    full = max(_SHORTEST_FULL_LINE, _FULL_SHARE * longest) if longest <= _LONGEST_WRAPPED_LINE else longest + 1
    paragraph = ""
    previous_full = False
    for line in lines:
        heading = line.startswith(_BOLD) and line.endswith(_BOLD) and line.count(_BOLD) == 2
        ends = paragraph.removesuffix(_BOLD).endswith(_ENDS_PARAGRAPH)
        if not line or heading or (line.startswith(_BOLD) and (ends or not previous_full)):
            yield paragraph
            paragraph = ""
        paragraph += line
        previous_full = len(line.replace(_BOLD, "")) >= full
        if heading or not (previous_full or _breaks_off(paragraph)):
            yield paragraph
            paragraph = ""
    yield paragraph


def _breaks_off(paragraph: str) -> bool:
    text = paragraph.removesuffix(_BOLD)
    if text.endswith(_GOES_ON):
        return True
    return not text.endswith(_ENDS_PARAGRAPH) and _PROSE.search(_BRACKETED.sub("", text)) is not None


def cut(paragraphs: list[str], limit: int) -> list[str]:
    """Texts of at most ``limit`` characters: whole paragraphs where they fit, else sentences, clauses, pieces."""
    texts: list[str] = []
    for paragraph in paragraphs:
        separator = "\n"
        for piece in _pieces(paragraph, limit):
            if texts and len(texts[-1]) + len(separator) + len(piece) <= limit:
                texts[-1] += separator + piece
            else:
                texts.append(piece.strip())
            separator = ""
    return texts


def _pieces(paragraph: str, limit: int) -> Iterator[str]:
    if len(paragraph) <= limit:
        yield paragraph
        return
    for sentence in _SENTENCE_END.split(paragraph):
        if len(sentence) <= limit:
            yield sentence
            continue
        for clause in _CLAUSE_END.split(sentence):
            for start in range(0, len(clause), limit):
                yield clause[start : start + limit]
