"""Preference pairs as ms-swift takes them: a row with both answers, or two rows that each say how good theirs is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from medllm_ops.errors import MedllmError

Row: TypeAlias = dict[str, Any]

REJECTED: Final = "rejected_response"
LABEL: Final = "label"


def both_answers(row: Mapping[str, Any]) -> tuple[Row, Row]:
    """A pair as two dialogues: the one with the better answer, and the one with the worse."""
    worse = {"role": "assistant", "content": row[REJECTED]}
    return (
        {"id": row["id"], "messages": row["messages"]},
        {"id": row["id"], "messages": [*row["messages"][:-1], worse]},
    )


def labelled(row: Mapping[str, Any]) -> list[Row]:
    """A pair as the two rows that kto takes, of the same id, the wanted one first."""
    better, worse = both_answers(row)
    return [{**better, LABEL: True}, {**worse, LABEL: False}]


def pairs_of(rows: Iterable[Mapping[str, Any]]) -> Iterator[Row]:
    """The pairs of a file of either form.

    :raises MedllmError: if a labelled row stands without its other half.
    """
    waiting: Mapping[str, Any] | None = None
    for row in rows:
        if REJECTED in row:
            yield dict(row)
        elif waiting is None:
            waiting = row
        elif waiting["id"] == row["id"] and waiting[LABEL] and not row[LABEL]:
            better = {"id": row["id"], "messages": waiting["messages"]}
            yield {**better, REJECTED: row["messages"][-1]["content"]}
            waiting = None
        else:
            break
    if waiting is not None:
        raise MedllmError(f"row {waiting['id']} is one half of a pair, and the other half does not follow it")
