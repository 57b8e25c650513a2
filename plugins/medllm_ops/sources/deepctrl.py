"""deepctrl-sft-data: the question is in ``input``, earlier turns in ``history``, the language is named."""

from __future__ import annotations

from typing import Any

from medllm_ops.records import Dialogue
from medllm_ops.sources.alpaca import question_of
from medllm_ops.sources.dialogues import (
    build_dialogue,
    check_text_only,
    history_turns,
    language_of,
    text_field,
)
from medllm_ops.sources.rows import row_source

NAME = "deepctrl"


def recognises(row: dict[str, Any]) -> bool:
    """Whether a row is of this format."""
    return "input" in row and "output" in row and bool(row.keys() & {"data_source", "num_utter", "type_keyword"})


def identify(row: dict[str, Any]) -> str | None:
    """``deepctrl:zh-1``: the publisher counts from 1 in the Chinese and in the English file."""
    number = row.get("id")
    if isinstance(number, bool) or not isinstance(number, int | str) or number == "":
        return None
    texts = (value for field in ("instruction", "input", "output") if isinstance(value := row.get(field), str))
    return f"{NAME}:{language_of(texts, row.get('language'))}-{number}"


def convert(row: dict[str, Any]) -> Dialogue:
    """One row as a dialogue.

    :raises RowError: if it is none.
    """
    check_text_only(row)
    turns = [*history_turns(row), ("user", question_of(row)), ("assistant", text_field(row, "output"))]
    return build_dialogue(
        NAME,
        turns,
        system=text_field(row, "system"),
        language=row.get("language"),
        identifier=identify(row),
    )


SOURCE = row_source(NAME, convert, recognises, precedence=50, identify=identify)
