"""Alpaca rows: ``instruction``, ``input``, ``output``, and sometimes ``system`` and ``history``."""

from __future__ import annotations

from typing import Any

from medllm_ops.records import Dialogue
from medllm_ops.sources.dialogues import build_dialogue, check_text_only, history_turns, text_field
from medllm_ops.sources.rows import row_source

NAME = "alpaca"
_INPUT_LABEL = "输入："


def recognises(row: dict[str, Any]) -> bool:
    """Whether a row is of this format."""
    return "instruction" in row and "output" in row


def question_of(row: dict[str, Any]) -> str:
    """Instruction and input as one question, as ms-swift joins them; the label of Chinese inputs is no text.

    :raises RowError: ``not a string``.
    """
    instruction = text_field(row, "instruction")
    text = text_field(row, "input").removeprefix(_INPUT_LABEL)
    return f"{instruction}\n{text}" if instruction and text else instruction or text


def convert(row: dict[str, Any]) -> Dialogue:
    """One row as a dialogue.

    :raises RowError: if it is none.
    """
    check_text_only(row)
    turns = [*history_turns(row), ("user", question_of(row)), ("assistant", text_field(row, "output"))]
    return build_dialogue(NAME, turns, system=text_field(row, "system"))


SOURCE = row_source(NAME, convert, recognises, precedence=60)
