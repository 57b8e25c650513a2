"""Lines: hard wraps are joined, white space is put in order, tables and lists stay tables and lists."""

from __future__ import annotations

import itertools
import re
from collections import Counter

WHITE_SPACE = "layout.white_space"
HARD_WRAP = "layout.hard_wrap"

_HAN = "\u3400-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_CHINESE = re.compile(f"[{_HAN}]")
_TRAILING = re.compile(r"[ \t]+(?=\n)")
_BLANK_LINES = re.compile(r"\n{3,}")
# An indented paragraph; the indentation of code and of lists says something.
_INDENT = re.compile(rf"(?m)^[ \t]+(?=[{_HAN}“‘《「『【（])")
_LIST_MARK = r"(?:[-*+•●○◆◇■□▪▶·–—※]|\(?[0-9]{1,3}[.)、:]|[（(]?[一二三四五六七八九十]{1,3}[)）、]|[①-⑳]|[a-zA-Z][.)] )"
_LIST = re.compile(rf"\s*{_LIST_MARK}")
_GAP = re.compile(r"(?<=[^\s.!?:;,])[ ]{2,}(?=\S)|(?<=\S)[ ]{3,}(?=\S)")
_SPACES = re.compile(r"[ ]{2,}")
_INDENTED_LIST = re.compile(rf"[ \t]+(?={_LIST_MARK})")

_FEWEST_CUT_ENGLISH = 3
_FEWEST_CUT_CHINESE = 4
_FEWEST_LINES = 4
_ENGLISH_WIDTH = range(50, 121)
_CHINESE_WIDTH = range(24, 81)
_WRAPPED_SHARE = 0.7
_LOWER_CASE_SHARE = 0.5
_SENTENCE_SHARE = 0.4
_SENTENCE_END = tuple("。！？；：∶.!?;:")
_CJK = re.compile(f"[{_HAN}\u2018-\u201d\u2026\u3000-\u30ff\uff00-\uffef]")
_PUNCTUATION = re.compile("[，。；、！？]")
_LABEL = re.compile(r"[A-Z][A-Z /&-]{3,40}:|[\w ]{1,40}:$|[#|>【]")
_HYPHENATED = re.compile(r"[A-Za-z0-9]-$")


def with_white_space_in_order(text: str, document: bool, marks: Counter[str]) -> str:
    """No white space at the ends of text and lines, at most one empty line in a row.

    In a document, runs of spaces become one, but where lines below each other have them they are the columns of a
    table, and become tabs. A dialogue keeps its indentation: it may be code.
    """
    new = text.lstrip("\n ").rstrip("\n \t")
    if "\n" in new:
        if " \n" in new or "\t\n" in new:
            new = _TRAILING.sub("", new)
        if "\n\n\n" in new:
            new = _BLANK_LINES.sub("\n\n", new)
    if ("  " in new or "\n " in new or "\n\t" in new) and "```" not in new:
        new = _INDENT.sub("", new)
        if document:
            new = _spaces_in_order(new)
    new = new.lstrip("\n ").rstrip("\n \t")
    if new != text:
        marks[WHITE_SPACE] += 1
    return new


def _spaces_in_order(text: str) -> str:
    lines = text.split("\n")
    gaps = [_GAP.search(line.strip()) is not None for line in lines]
    tidy = []
    for number, line in enumerate(lines):
        body = line.strip(" \t")
        indent = match.group() if (match := _INDENTED_LIST.match(line)) else ""
        in_table = gaps[number] and (any(gaps[max(0, number - 1) : number]) or any(gaps[number + 1 : number + 2]))
        if in_table:
            body = _GAP.sub("\t", body)
        tidy.append(indent + _SPACES.sub(" ", body))
    return "\n".join(tidy)


def without_hard_wraps(text: str, marks: Counter[str]) -> str:
    """Join lines that were cut at a fixed width, in blocks of lines that plainly were.

    A line was cut if the first word of the next did not fit. A block was cut if most of its lines were, and if it
    reads on across the ends: in English most lines begin in lower case, in Chinese few end with a sentence, though
    there are sentences. Verses, lists, tables, labelled paragraphs and entries of equal length without punctuation are
    left as they are: a wrap that stays does little harm, two lines joined wrongly are a wrong sentence.
    """
    if text.count("\n") + 1 < _FEWEST_LINES or "```" in text:
        return text
    blocks = text.split("\n\n")
    joined = [_joined(block, marks) for block in blocks]
    return "\n\n".join(joined)


def _joined(block: str, marks: Counter[str]) -> str:
    lines = block.split("\n")
    if len(lines) < _FEWEST_LINES or "\t" in block:
        return block
    longest = max(map(len, lines))
    if longest >= _ENGLISH_WIDTH.stop or longest < _CHINESE_WIDTH.start:
        return block
    chinese = len(_CHINESE.findall(block)) * 2 > len(block)
    if longest not in (_CHINESE_WIDTH if chinese else _ENGLISH_WIDTH):
        return block
    cut = [_was_cut(line, after, longest, chinese) for line, after in itertools.pairwise(lines)]
    # The first line may be a title.
    if (
        sum(cut) < (_FEWEST_CUT_CHINESE if chinese else _FEWEST_CUT_ENGLISH)
        or sum(cut[1:]) < _WRAPPED_SHARE * len(cut[1:])
        or not _reads_on(lines, cut, chinese)
    ):
        return block
    text = lines[0]
    for was_cut, line, after in zip(cut, lines, lines[1:], strict=False):
        if was_cut and not (_LIST.match(after) or _LABEL.match(after) or line.endswith((":", "："))):
            text += _between(line, after) + after
            marks[HARD_WRAP] += 1
        else:
            text += "\n" + after
    return text


def _was_cut(line: str, after: str, longest: int, chinese: bool) -> bool:
    if chinese:
        return len(line) >= longest - 2
    return len(line) + 1 + len(after.split(" ", 1)[0]) > longest


def _reads_on(lines: list[str], cut: list[bool], chinese: bool) -> bool:
    if chinese:
        if len(_PUNCTUATION.findall("".join(lines))) < len(lines):
            return False
        ends = sum(was_cut and line.endswith(_SENTENCE_END) for was_cut, line in zip(cut, lines, strict=False))
        return ends <= _SENTENCE_SHARE * sum(cut)
    begins = sum(was_cut and after[:1].islower() for was_cut, after in zip(cut, lines[1:], strict=False))
    return begins >= _LOWER_CASE_SHARE * sum(cut)


def _between(line: str, after: str) -> str:
    """What joins two lines: nothing in Chinese and behind a hyphen, which stays (dose-/dependent, IL-/6)."""
    if _HYPHENATED.search(line) or _CJK.match(line[-1:]) or _CJK.match(after):
        return ""
    return " "
