"""ms-swift's own format: ``messages`` of ``role`` and ``content``, a system turn first where there is one."""

from __future__ import annotations

from typing import Any

from medllm_ops.records import Dialogue, Document
from medllm_ops.sources.dialogues import build_dialogue, check_text_only, text_field, turns_of
from medllm_ops.sources.query_response import build_document
from medllm_ops.sources.rows import row_source

NAME = "messages"


def recognises(row: dict[str, Any]) -> bool:
    """Whether a row is of this format."""
    return "messages" in row


def convert(row: dict[str, Any]) -> Dialogue | Document:
    """One row as a dialogue; a lone turn of the assistant is ms-swift's pretraining row, hence a document.

    :raises RowError: if it is neither.
    """
    check_text_only(row)
    turns = turns_of(row, "messages", "role", "content")
    if len(turns) == 1 and turns[0][0] == "assistant":
        return build_document(NAME, turns[0][1])
    return build_dialogue(NAME, turns, system=text_field(row, "system"))


SOURCE = row_source(NAME, convert, recognises, precedence=30)
