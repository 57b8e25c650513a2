"""ShareGPT rows: ``conversations`` of ``from`` and ``value``, or ``conversation`` of ``human`` and ``assistant``."""

from __future__ import annotations

from typing import Any

from medllm_ops.records import Dialogue
from medllm_ops.sources.dialogues import build_dialogue, check_text_only, list_field, text_field, turns_of
from medllm_ops.sources.row import RowError
from medllm_ops.sources.rows import row_source

NAME = "conversations"


def recognises(row: dict[str, Any]) -> bool:
    """Whether a row is of this format."""
    return "conversations" in row or "conversation" in row


def exchanges_of(row: dict[str, Any]) -> list[tuple[str, str]]:
    """The turns of ``[{"human": question, "assistant": answer}, …]``.

    :raises RowError: if it is anything else.
    """
    turns: list[tuple[str, str]] = []
    for number, exchange in enumerate(list_field(row, "conversation"), start=1):
        if not isinstance(exchange, dict):
            raise RowError("not an object", f"exchange {number}")
        turns.append(("user", text_field(exchange, "human")))
        turns.append(("assistant", text_field(exchange, "assistant")))
    return turns


def convert(row: dict[str, Any]) -> Dialogue:
    """One row as a dialogue.

    :raises RowError: if it is none.
    """
    check_text_only(row)
    turns = turns_of(row, "conversations", "from", "value") if "conversations" in row else exchanges_of(row)
    return build_dialogue(NAME, turns, system=text_field(row, "system"))


SOURCE = row_source(NAME, convert, recognises, precedence=40)
