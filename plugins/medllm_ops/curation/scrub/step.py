"""Scrub one row: every recogniser over every text until there is nothing left to find."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from medllm_ops.curation.outcome import Outcome
from medllm_ops.curation.scrub.chinese_address import chinese_addresses
from medllm_ops.curation.scrub.chinese_names import chinese_names
from medllm_ops.curation.scrub.finding import KINDS, MARK, Kind, Recogniser, Span, mark, shape
from medllm_ops.curation.scrub.labelled import labelled_numbers
from medllm_ops.curation.scrub.latin_names import latin_names
from medllm_ops.curation.scrub.online import accounts, emails, ip_addresses, profiles
from medllm_ops.curation.scrub.phone import phones
from medllm_ops.curation.scrub.settings import EVERYTHING, ScrubSettings
from medllm_ops.curation.scrub.street_address import street_addresses
from medllm_ops.curation.scrub.with_presidio import bank_and_social_security

MOSTLY_PERSONAL = "mostly personal data"

# Where two findings overlap, the recogniser that stands first here is right.
_RECOGNISERS: tuple[Recogniser, ...] = (
    emails,
    profiles,
    labelled_numbers,
    bank_and_social_security,
    phones,
    accounts,
    ip_addresses,
    chinese_addresses,
    street_addresses,
    chinese_names,
    latin_names,
)
_NEED_DIGITS = (labelled_numbers, phones, ip_addresses, street_addresses)
_NEED_THREE_DIGITS = (bank_and_social_security,)
_DIGIT = re.compile(r"\d")
_THREE_DIGITS = re.compile(r"\d\d\d")


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One replacement, for review: never the value itself.

    ``context`` is the text around the mark, scrubbed of all kinds whatever the settings say, with every digit hidden;
    ``shape`` has a class for each character of the value (``999-9999-9999``), so that a reviewer sees whether a dose
    was taken for a phone. ``field`` is where it stood (``messages.0``, ``title``, ``rejected_response``).
    """

    id: str
    field: str
    kind: Kind
    rule: str
    shape: str
    context: str


@dataclass(frozen=True, slots=True)
class _Replaced:
    """What stood where a mark is now."""

    kind: Kind
    rule: str
    shape: str


def scrub(row: dict[str, Any], settings: ScrubSettings) -> Outcome:
    """The row with a mark in place of each piece of personal data, counted by kind in ``Outcome.marks``.

    Looked at are the turns, the title and the rejected response; a row that consists of personal data is dropped.
    """
    return scrub_for_review(row, settings)[0]


def scrub_for_review(row: dict[str, Any], settings: ScrubSettings) -> tuple[Outcome, tuple[Finding, ...]]:
    """:func:`scrub`, and what a reviewer needs to judge each replacement (see :class:`ReviewSample`)."""
    scrubbed = dict(row)
    findings: list[Finding] = []
    before = after = 0
    turns = list(row["messages"])
    for place, message in enumerate(turns):
        text, replaced = scrub_text(message["content"], settings)
        if replaced:
            turns[place] = {**message, "content": text}
            findings += _findings(row["id"], f"messages.{place}", text, replaced, settings)
            after -= sum(len(mark(found.kind)) for found in replaced if found is not None)
        before += len(message["content"])
        after += len(text)
    for field in ("title", "rejected_response"):
        if row.get(field):
            scrubbed[field], replaced = scrub_text(row[field], settings)
            findings += _findings(row["id"], field, scrubbed[field], replaced, settings)
    if not findings:
        return Outcome(row=row), ()
    marks: Counter[str] = Counter(finding.kind for finding in findings)
    if before - after > settings.max_scrubbed_share * before:
        share = f"{(before - after) / before:.2f} of its characters"
        return Outcome.drop(MOSTLY_PERSONAL, share, marks), tuple(findings)
    scrubbed["messages"] = turns
    return Outcome(row=scrubbed, marks=marks), tuple(findings)


def scrub_text(text: str, settings: ScrubSettings) -> tuple[str, list[_Replaced | None]]:
    """The text with marks, and for each mark in it what stood there (None: the mark itself); empty if all stays.

    It is looked at again until nothing more is found, so that scrubbing its result finds nothing either. Each round
    replaces at least one character that is not part of a mark, so there is an end.
    """
    replaced: list[_Replaced | None] = []
    while found := spans(text, settings):
        if not replaced and "⟨" in text:
            replaced = [None for _ in MARK.finditer(text)]
        standing = [(match.start(), what) for match, what in zip(MARK.finditer(text), replaced, strict=True)]
        new = [(span.start, _Replaced(span.kind, span.rule, shape(text[span.start : span.end]))) for span in found]
        replaced = [what for _, what in sorted([*standing, *new], key=_position)]
        text = _with_marks(text, found)
    return text, replaced


def _position(entry: tuple[int, _Replaced | None]) -> int:
    return entry[0]


def _with_marks(text: str, found: list[Span]) -> str:
    pieces, end = [], 0
    for span in found:
        pieces += [text[end : span.start], mark(span.kind)]
        end = span.end
    return "".join([*pieces, text[end:]])


def _findings(
    id_: str, field: str, text: str, replaced: list[_Replaced | None], settings: ScrubSettings
) -> Iterator[Finding]:
    if not replaced:
        return
    # What the settings let stay in the row is personal data all the same, and review is for other eyes.
    if settings.keep or set(settings.kinds) != set(KINDS):
        text, further = scrub_text(text, EVERYTHING)
        own = iter(replaced)
        replaced = [next(own) if one is None else None for one in further] or replaced
    for match, what in zip(MARK.finditer(text), replaced, strict=True):
        if what is not None:
            start = max(0, match.start() - settings.review_context)
            context = _DIGIT.sub("#", text[start : match.end() + settings.review_context])
            yield Finding(id_, field, what.kind, what.rule, what.shape, context)


def spans(text: str, settings: ScrubSettings) -> list[Span]:
    """Everything found in one look at a text, in order, without overlaps, none inside a mark."""
    if not text:
        return []
    kinds = settings.kinds
    # One byte a character: a directory has thousands of findings, too many to compare each with all others.
    taken = bytearray(len(text))
    for match in MARK.finditer(text) if "⟨" in text else ():
        taken[match.start() : match.end()] = b"\1" * len(match[0])
    chosen: list[Span] = []
    passed_over: tuple[Recogniser, ...] = ()
    if _DIGIT.search(text) is None:
        passed_over = (*_NEED_DIGITS, *_NEED_THREE_DIGITS)
    elif _THREE_DIGITS.search(text) is None:
        passed_over = _NEED_THREE_DIGITS
    for recogniser in _RECOGNISERS:
        if recogniser in passed_over:
            continue
        if recogniser is bank_and_social_security and not settings.presidio:
            continue
        # The longer one of a recogniser's own findings: a labelled address has the street in it.
        for span in sorted(recogniser(text), key=lambda one: one.start - one.end):
            if span.kind not in kinds or 1 in taken[span.start : span.end]:
                continue
            if settings.keep and text[span.start : span.end] in settings.keep:
                continue
            chosen.append(span)
            taken[span.start : span.end] = b"\1" * (span.end - span.start)
    chosen.sort(key=lambda span: span.start)
    return chosen
