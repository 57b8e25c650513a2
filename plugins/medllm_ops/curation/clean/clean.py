"""Step 1 of curation: the text of a row in order, or the reason why the row is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from medllm_ops.curation.clean import filters
from medllm_ops.curation.clean.boilerplate import without_boilerplate
from medllm_ops.curation.clean.dialogues import with_roles_in_order
from medllm_ops.curation.clean.html import speaks_of_code, without_html
from medllm_ops.curation.clean.layout import with_white_space_in_order, without_hard_wraps
from medllm_ops.curation.clean.markdown import without_markdown
from medllm_ops.curation.clean.settings import CleanSettings
from medllm_ops.curation.clean.unicode import in_order
from medllm_ops.curation.outcome import Outcome

MALFORMED = "not a row of messages"
EMPTY = "nothing left of the text"
NO_REJECTED = "no rejected response"
EQUAL_ANSWERS = "both answers are equal"
LANGUAGE_CORRECTED = "language.corrected"

MOST_PASSES = 6
"""The rules are repeated until they change nothing: an entity may hide a tag. Text that people wrote takes two."""

Rule = Callable[[str, bool, CleanSettings, Counter[str]], str]
Watch = Callable[[str, Counter[str], str, str], None]


def _unicode(text: str, document: bool, settings: CleanSettings, marks: Counter[str]) -> str:
    return in_order(text, settings.unicode, marks)


def _html(text: str, document: bool, settings: CleanSettings, marks: Counter[str]) -> str:
    if not settings.layout.html or not ("<" in text or "&" in text) or (not document and speaks_of_code(text)):
        return text
    return without_html(text, marks)


def _markdown(text: str, document: bool, settings: CleanSettings, marks: Counter[str]) -> str:
    return without_markdown(text, marks) if document and settings.layout.markdown else text


def _white_space(text: str, document: bool, settings: CleanSettings, marks: Counter[str]) -> str:
    return with_white_space_in_order(text, document, marks)


def _hard_wraps(text: str, document: bool, settings: CleanSettings, marks: Counter[str]) -> str:
    return without_hard_wraps(text, marks) if document and settings.layout.hard_wraps else text


def _boilerplate(text: str, document: bool, settings: CleanSettings, marks: Counter[str]) -> str:
    return without_boilerplate(text, document, settings.boilerplate, marks) if settings.boilerplate.remove else text


RULES: tuple[tuple[str, Rule], ...] = (
    ("unicode", _unicode),
    ("html", _html),
    ("markdown", _markdown),
    ("white space", _white_space),
    ("hard wraps", _hard_wraps),
    ("boilerplate", _boilerplate),
)
"""What is done to a text, in this order."""


def clean_text(
    text: str, document: bool, settings: CleanSettings, marks: Counter[str], watch: Watch | None = None
) -> str:
    """One text as all rules leave it. Idempotent.

    :param document: whether it is a document; a dialogue's turn keeps its Markdown and its lines.
    :param watch: is told of each rule that changed the text: its name, its marks, the text before and after.
    """
    for _ in range(MOST_PASSES):
        before_pass = text
        for name, rule in RULES:
            if watch is None:
                text = rule(text, document, settings, marks)
                continue
            own: Counter[str] = Counter()
            new = rule(text, document, settings, own)
            if new != text:
                watch(name, own, text, new)
            marks.update(own)
            text = new
        if text == before_pass:
            break
    return text


def clean(row: dict[str, Any], settings: CleanSettings) -> Outcome:
    """Clean one row; never raises, whatever the row holds.

    A row that nothing changes comes back as the same object. A changed one is a new dictionary with the same keys.
    """
    return run(row, settings)


def run(row: Any, settings: CleanSettings, watch: Callable[[str], Watch] | None = None) -> Outcome:
    """:func:`clean`, with somebody who watches: ``watch("turn 2, assistant")`` makes the :data:`Watch` of that text."""
    marks: Counter[str] = Counter()
    if fault := _malformed(row):
        return Outcome.drop(MALFORMED, fault, marks)
    document = [message["role"] for message in row["messages"]] == ["assistant"]
    changed = False
    messages = []
    for number, message in enumerate(row["messages"], start=1):
        watcher = watch(f"turn {number}, {message['role']}") if watch else None
        content = clean_text(message["content"], document, settings, marks, watcher)
        changed = changed or content != message["content"]
        messages.append(message if content == message["content"] else {**message, "content": content})
    rejected = row.get("rejected_response")
    if rejected is not None:
        rejected = clean_text(rejected, False, settings, marks, watch("rejected response") if watch else None)
        changed = changed or rejected != row["rejected_response"]
    if document:
        if not messages[0]["content"]:
            return Outcome.drop(EMPTY, "", marks)
    else:
        turns, fault, detail = with_roles_in_order(messages, settings.dialogues, marks)
        if fault:
            return Outcome.drop(fault, detail, marks)
        changed = changed or turns != messages
        messages = turns
    language, drop = _drop(row, messages, rejected, document, settings)
    if drop:
        return Outcome.drop(*drop, marks)
    if language != row.get("language", ""):
        marks[LANGUAGE_CORRECTED] += 1
        changed = True
    if not changed:
        return Outcome(row=row, marks=marks)
    new = {**row, "messages": messages}
    if language:
        new["language"] = language
    if rejected is not None:
        new["rejected_response"] = rejected
    return Outcome(row=new, marks=marks)


def _malformed(row: Any) -> str:
    """What is wrong with the shape of a row, or nothing."""
    if not isinstance(row, dict):
        return f"a {type(row).__name__}"
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        return "no list of messages"
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, dict):
            return f"message {number} is a {type(message).__name__}"
        if not isinstance(message.get("role"), str) or not isinstance(message.get("content"), str):
            return f"message {number} has no role or no content"
    if not isinstance(row.get("rejected_response", ""), str):
        return "the rejected response is no text"
    return "" if isinstance(row.get("language", ""), str) else "the language is no text"


def _drop(
    row: dict[str, Any], messages: list[dict[str, Any]], rejected: str | None, document: bool, settings: CleanSettings
) -> tuple[str, filters.Drop | None]:
    """The language of a row, and why it is left out, or None."""
    named = row.get("language", "")
    texts = [message["content"] for message in messages]
    if rejected is not None:
        if not rejected:
            return named, (NO_REJECTED, "")
        if rejected == texts[-1]:
            return named, (EQUAL_ANSWERS, "")
        texts.append(rejected)
    for text in texts:
        if drop := filters.unusable(text, settings):
            return named, drop
    whole = filters.Measured(texts[0] if document else "\n".join(texts))
    label, language, drop = filters.language_drop(whole, named, settings)
    if document:
        return label, drop or filters.document_drop(whole, language, settings)
    answers = [filters.Measured(message["content"]) for message in messages if message["role"] == "assistant"]
    if drop:
        # A sentence to translate may be longer than the question around it and its answer.
        together = filters.Measured("\n".join(answer.text for answer in answers))
        label, language, drop = filters.language_drop(together, named, settings)
    if drop:
        return label, drop
    if len(whole.text) > settings.dialogues.max_characters:
        return label, (filters.LONG, f"{len(whole.text)} characters")
    return label, next(filter(None, (filters.answer_drop(answer, settings) for answer in answers)), None)
