"""DISC-Med-SFT: ``_id``, ``source``, ``conversation`` of ``role`` and ``content``."""

from __future__ import annotations

from typing import Any

from medllm_ops.records import Dialogue
from medllm_ops.sources.dialogues import build_dialogue, check_text_only, text_field, turns_of
from medllm_ops.sources.rows import row_source

NAME = "disc_medllm"


def recognises(row: dict[str, Any]) -> bool:
    """Whether a row is of this format."""
    turns = row.get("conversation")
    return isinstance(turns, list) and bool(turns) and isinstance(turns[0], dict) and "role" in turns[0]


def identify(row: dict[str, Any]) -> str | None:
    """``disc_medllm:01-94236``, of the publisher's ``_id``."""
    identifier = row.get("_id")
    return f"{NAME}:{identifier}" if isinstance(identifier, str) and identifier else None


def convert(row: dict[str, Any]) -> Dialogue:
    """One row as a dialogue.

    :raises RowError: if it is none.
    """
    check_text_only(row)
    turns = turns_of(row, "conversation", "role", "content")
    return build_dialogue(NAME, turns, system=text_field(row, "system"), identifier=identify(row))


SOURCE = row_source(NAME, convert, recognises, precedence=20, identify=identify)
