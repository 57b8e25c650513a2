"""ms-swift 1.x: ``system``, ``query``, ``response``, ``history``; ``response`` alone is a text for pretraining."""

from __future__ import annotations

from typing import Any

from medllm_ops.records import Dialogue, Document
from medllm_ops.sources.dialogues import (
    build_dialogue,
    check_content,
    check_text_only,
    content_id,
    history_turns,
    is_blank,
    language_of,
    text_field,
)
from medllm_ops.sources.row import RowError
from medllm_ops.sources.rows import row_source

NAME = "query_response"


def recognises(row: dict[str, Any]) -> bool:
    """Whether a row is of this format."""
    return "response" in row


def build_document(source: str, text: str) -> Document:
    """A text for pretraining that came as a row without a question.

    :raises RowError: ``empty turn``, or what :func:`check_content` refuses.
    """
    if is_blank(text):
        raise RowError("empty turn", "the only one")
    check_content(text)
    return Document(
        id=content_id(source, ["assistant", text]), source=source, language=language_of([text]), title="", text=text
    )


def convert(row: dict[str, Any]) -> Dialogue | Document:
    """One row as a dialogue, or as a document where it asks nothing.

    :raises RowError: if it is neither.
    """
    check_text_only(row)
    if "query" not in row and not row.get("history"):
        return build_document(NAME, text_field(row, "response"))
    turns = [*history_turns(row), ("user", text_field(row, "query")), ("assistant", text_field(row, "response"))]
    return build_dialogue(NAME, turns, system=text_field(row, "system"))


SOURCE = row_source(NAME, convert, recognises, precedence=70)
