"""What is left of HTML: entities become characters, tags line ends or nothing; ``p<0.05`` is taken for no tag."""

from __future__ import annotations

import html
import re
from collections import Counter

ENTITY = "html.entity"
TAG = "html.tag"
SCRIPT = "html.script"
RAISED = "html.raised_or_lowered"

_BLOCK = "address article aside blockquote body br caption center dd details div dl dt fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 head header hr html legend li main nav ol optgroup option p pre section select summary table tbody tfoot thead title tr ul"  # noqa: E501
_INLINE = "a abbr acronym b bdi bdo big button cite code del dfn em font i img input ins kbd label link mark meta noscript q rp rt ruby s samp small source span strike strong sub sup td th time tt u var wbr iframe"  # noqa: E501
_BLOCKS = frozenset(_BLOCK.split())
_NAMES = "|".join(sorted([*_BLOCKS, *_INLINE.split()], key=len, reverse=True))
# One letter may be a variable: a<b and c>d. Such a tag counts if it is closed somewhere.
_ONE_LETTER = frozenset("abiqsu")

_ATTRIBUTE = r"""\s+[A-Za-z_:@][\w:.-]*(?:\s*=\s*(?:"[^"<>]*"|'[^'<>]*'|[^\s"'<>=]+))"""
_TAG = re.compile(rf"<(/?)({_NAMES})(?:{_ATTRIBUTE}){{0,30}}\s*/?>", re.IGNORECASE)
# Each by itself, so that one that is never closed costs no time: a beginning, and what ends it.
_UNSEEN = (
    (re.compile(r"<!--"), re.compile(r"-->")),
    (re.compile(r"<script\b[^<>]{0,1000}>", re.IGNORECASE), re.compile(r"</script\s{0,9}>", re.IGNORECASE)),
    (re.compile(r"<style\b[^<>]{0,1000}>", re.IGNORECASE), re.compile(r"</style\s{0,9}>", re.IGNORECASE)),
    (re.compile(r"<!doctype\b", re.IGNORECASE), re.compile(r">")),
)
_BETWEEN_CELLS = re.compile(r"</t[dh]\s*>\s*<t[dh]\b[^<>]{0,500}>", re.IGNORECASE)
_AMPERSANDS = re.compile(r"&(?:(?:amp|AMP|#0{0,5}38|#[xX]0{0,4}26);)+")
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_SPEAKS_OF_CODE = re.compile(r"```|<!doctype|<html\b|\b(?:html|css|xml|svg|javascript)\b|网页|标签", re.IGNORECASE)

_PLAIN = "0123456789+-−–=()"
_RAISED = dict(zip(map(ord, _PLAIN + "ni"), "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁻⁼⁽⁾ⁿⁱ", strict=True))
_LOWERED = dict(zip(map(ord, _PLAIN), "₀₁₂₃₄₅₆₇₈₉₊₋₋₋₌₍₎", strict=True))
_DIGIT = re.compile("[0-9]")
_RAISED_OR_LOWERED = re.compile(r"<(sup|sub)\b[^<>]{0,200}>\s*([^<>]{0,40}?)\s*</\1\s*>", re.IGNORECASE)


def speaks_of_code(text: str) -> bool:
    """Whether a turn of a dialogue is about HTML or shows code, so that its tags are what it says."""
    return _SPEAKS_OF_CODE.search(text) is not None


def without_html(text: str, marks: Counter[str]) -> str:
    """The text without tags and entities; ``marks`` counts what was replaced, by rule."""
    if "&" in text:
        text = _unescaped(text, marks)
    if "<" not in text or ">" not in text:
        return text
    if "<!" in text or "<s" in text or "<S" in text:
        for beginning, end in _UNSEEN:
            text = _without(beginning, end, text, marks)
    text = _RAISED_OR_LOWERED.sub(lambda match: _raised_or_lowered(match, marks), text)
    text, cells = _BETWEEN_CELLS.subn(" | ", text)
    if cells:
        marks[TAG] += 2 * cells
    lower = text.lower()

    def untagged(match: re.Match[str]) -> str:
        closing, name = match.group(1), match.group(2).lower()
        if name in _ONE_LETTER and not (f"</{name}>" in lower and f"<{name}" in lower):
            return match.group()
        marks[TAG] += 1
        if name == "li" and not closing:
            return "\n- "
        return "\n" if name in _BLOCKS else ""

    return _TAG.sub(untagged, text)


def _without(beginning: re.Pattern[str], end: re.Pattern[str], text: str, marks: Counter[str]) -> str:
    kept, position = [], 0
    while (first := beginning.search(text, position)) and (last := end.search(text, first.end())):
        kept.append(text[position : first.start()])
        position = last.end()
        marks[SCRIPT] += 1
    return "".join([*kept, text[position:]])


def _unescaped(text: str, marks: Counter[str]) -> str:
    def character(match: re.Match[str]) -> str:
        new = html.unescape(match.group())
        if new != match.group():
            marks[ENTITY] += 1
        return new

    # &amp;amp;lt; comes of pages that were escaped again and again.
    return _ENTITY.sub(character, _AMPERSANDS.sub("&", text) if _ENTITY.search(text) else text)


def _raised_or_lowered(match: re.Match[str], marks: Counter[str]) -> str:
    """10<sup>-3</sup> is 10⁻³ and never 10-3; a number that has no such form is marked, a word is not."""
    name, content = match.group(1).lower(), match.group(2)
    table = _RAISED if name == "sup" else _LOWERED
    marks[RAISED] += 1
    if content and all(ord(character) in table for character in content):
        return content.translate(table)
    after_digit = match.start() > 0 and match.string[match.start() - 1].isdigit()
    if _DIGIT.search(content) and (name == "sup" or after_digit):
        return f"^({content})" if name == "sup" else f"_({content})"
    return content
