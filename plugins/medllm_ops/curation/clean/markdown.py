"""What is left of Markdown in a document: escapes, bold, headings, links and rules lose their marks, lists keep them.

Dialogues keep theirs: a chat model may answer in Markdown. Stars of significance (``**P < .01``), alleles
(``CYP2C9*2``), ``# of patients`` and the backslashes of formulas are none of it.
"""

from __future__ import annotations

import re
from collections import Counter

from medllm_ops.curation.clean.substituted import substituted

ESCAPE = "markdown.escape"
BOLD = "markdown.bold"
HEADING = "markdown.heading"
LINK = "markdown.link"
RULE = "markdown.rule"

_FORMULA = re.compile(r"\\[A-Za-z]{2}|\$[^$\n]{0,200}\\|\\\(.{0,300}?\\\)|\\\[[^\]\n]{0,300}[=^_+\\][^\]\n]{0,300}\\\]")
_ESCAPE = re.compile(r"\\([\\`*_{}\[\]()#+\-.!|<>~^])")
_BOLD = re.compile(r"(?<![*\w\\])\*\*(?=[^\s*])([^*\n]{1,300}?)(?<=[^\s*])\*\*(?![*A-Za-z0-9])")
_HEADING = re.compile(r"(?m)^[ ]{0,3}(?:#{2,6}[ \t]+|#[ \t]+(?![a-z]))(?=\S)(.*)$")
_IMAGE = re.compile(r"!\[([^\[\]\n]{0,200})\]\([^()\s]{0,2000}(?:\s+\"[^\"\n]{0,200}\")?\)")
_LINK = re.compile(
    r"\[([^\[\]\n]{0,300})\]\((?:https?://|mailto:|www\.|/|#|\./)[^()\s]{0,2000}(?:\s+\"[^\"\n]{0,200}\")?\)"
)
_RULE = re.compile(r"(?m)^[ \t]*(?:-(?:[ \t]*-){2,}|\*(?:[ \t]*\*){2,}|_(?:[ \t]*_){2,}|={3,})[ \t]*$\n?")


def without_markdown(text: str, marks: Counter[str]) -> str:
    """The text without Markdown's marks; a text with code between fences is left alone."""
    if "```" in text:
        return text

    if "\\" in text and not _FORMULA.search(text):
        text = substituted(_ESCAPE, r"\1", text, ESCAPE, marks)
    if "]" in text and "](" in text:
        text = substituted(_IMAGE, "", text, LINK, marks)
        text = substituted(_LINK, r"\1", text, LINK, marks)
    if "*" in text and "**" in text:
        text = substituted(_BOLD, r"\1", text, BOLD, marks)
    if "#" in text:
        text = substituted(_HEADING, _heading, text, HEADING, marks)
    if any(sign in text and (sign * 3 in text or f"{sign} {sign}" in text) for sign in "-*_="):
        text = substituted(_RULE, "", text, RULE, marks)
    return text


def _heading(match: re.Match[str]) -> str:
    heading: str = match.group(1).rstrip(" \t")
    without = heading.rstrip("#")
    return without.rstrip(" \t") if without.endswith((" ", "\t")) else heading
