"""Preference pairs: a dialogue or a question with ``chosen`` and ``rejected``, or with ``rejected_response``."""

from __future__ import annotations

from typing import Any

from medllm_ops.records import Preference
from medllm_ops.sources.alpaca import question_of
from medllm_ops.sources.dialogues import (
    build_messages,
    check_content,
    check_text_only,
    content_id,
    history_turns,
    is_blank,
    language_of,
    text_field,
    turns_of,
)
from medllm_ops.sources.row import RowError
from medllm_ops.sources.rows import row_source

NAME = "preference"
_QUESTIONS = ("query", "prompt", "question")


def recognises(row: dict[str, Any]) -> bool:
    """Whether a row is of this format."""
    return "rejected_response" in row or ("chosen" in row and "rejected" in row)


def are_equal(one: str, other: str) -> bool:
    """Whether two answers say the same, white space aside: nothing can be learnt of such a pair."""
    return one.split() == other.split()


def answer_of(row: dict[str, Any], field: str) -> str:
    """An answer that is text, or a turn such as ``{"from": "gpt", "value": …}``.

    :raises RowError: if it is anything else.
    """
    value = row.get(field)
    if isinstance(value, dict):
        return text_field(value, "value" if "value" in value else "content")
    return text_field(row, field)


def _question_of(row: dict[str, Any]) -> str:
    field = next((name for name in _QUESTIONS if name in row), None)
    return text_field(row, field) if field else question_of(row)


def convert(row: dict[str, Any]) -> Preference:
    """One row as a preference; the better answer is the last turn of its messages.

    :raises RowError: if it is none, also when both answers are the same.
    """
    check_text_only(row)
    if "conversations" in row:
        turns = turns_of(row, "conversations", "from", "value")
    elif "messages" in row:
        turns = turns_of(row, "messages", "role", "content")
    else:
        turns = [*history_turns(row), ("user", _question_of(row))]
        if "response" in row:
            turns.append(("assistant", text_field(row, "response")))
    if "chosen" in row:
        turns.append(("assistant", answer_of(row, "chosen")))
    messages = build_messages(turns, text_field(row, "system"))
    rejected = answer_of(row, "rejected_response" if "rejected_response" in row else "rejected")
    if is_blank(rejected):
        raise RowError("empty turn", "the rejected answer")
    check_content(rejected)
    if are_equal(rejected, messages[-1].content):
        raise RowError("answers are equal")
    content = [[message.role, message.content] for message in messages]
    return Preference(
        id=content_id(NAME, *content, ["rejected", rejected]),
        source=NAME,
        language=language_of([*(message.content for message in messages), rejected]),
        messages=messages,
        rejected_response=rejected,
    )


SOURCE = row_source(NAME, convert, recognises, precedence=10, stage="dpo")
