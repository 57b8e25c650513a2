"""What a dialogue has to be: known roles that alternate, from the user to the assistant, and nothing empty."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from medllm_ops.curation.clean.settings import DialogueSettings

NO_TURNS = "no turns"
UNKNOWN_ROLE = "unknown role"
EMPTY_TURN = "empty turn"
NOT_FROM_USER = "does not begin with the user"
NOT_ALTERNATING = "roles do not alternate"
ENDS_ON_USER = "ends on the user's turn"
TOO_MANY_TURNS = "too many turns"

JOINED = "dialogue.joined_turns"
EMPTY_GONE = "dialogue.empty_turn"
UNANSWERED_GONE = "dialogue.unanswered_turn"
GREETING_GONE = "dialogue.greeting"

Messages = list[dict[str, Any]]


def with_roles_in_order(
    messages: Sequence[dict[str, Any]], settings: DialogueSettings, marks: Counter[str]
) -> tuple[Messages, str, str]:
    """The turns as they go on, or no turns, the reason and its detail.

    With ``faults: repair``, empty turns go, what the assistant says before the first question goes, turns of one
    role in a row become one, and questions without an answer at the end go. A system turn stands first or is a fault
    that nobody can repair.
    """
    system = [message for message in messages[:1] if message["role"] == "system"]
    turns = list(messages[len(system) :])
    if system and not system[0]["content"]:
        system = []
        marks[EMPTY_GONE] += 1
    for number, turn in enumerate(turns, start=1):
        if turn["role"] not in ("user", "assistant"):
            return [], UNKNOWN_ROLE, f"turn {number}: {str(turn['role'])[:40]!r}"
    if settings.faults == "repair":
        turns = _repaired(turns, marks)
    fault, detail = _fault(turns, settings)
    return ([], fault, detail) if fault else ([*system, *turns], "", "")


def _repaired(turns: Messages, marks: Counter[str]) -> Messages:
    said = [turn for turn in turns if turn["content"]]
    marks[EMPTY_GONE] += len(turns) - len(said)
    questions = [number for number, turn in enumerate(said) if turn["role"] == "user"]
    begin = questions[0] if questions else len(said)
    marks[GREETING_GONE] += begin
    repaired: Messages = []
    for turn in said[begin:]:
        if repaired and repaired[-1]["role"] == turn["role"]:
            repaired[-1] = {**turn, "content": f"{repaired[-1]['content']}\n{turn['content']}"}
            marks[JOINED] += 1
        else:
            repaired.append(turn)
    if repaired and repaired[-1]["role"] == "user":
        repaired.pop()
        marks[UNANSWERED_GONE] += 1
    for rule in (EMPTY_GONE, GREETING_GONE):
        if not marks[rule]:
            del marks[rule]
    return repaired


def _fault(turns: Messages, settings: DialogueSettings) -> tuple[str, str]:
    if not turns:
        return NO_TURNS, ""
    if len(turns) > settings.max_turns:
        return TOO_MANY_TURNS, f"{len(turns)} turns"
    for number, turn in enumerate(turns):
        if not turn["content"]:
            return EMPTY_TURN, f"turn {number + 1}, {turn['role']}"
        if turn["role"] != ("user", "assistant")[number % 2]:
            return NOT_FROM_USER if number == 0 else NOT_ALTERNATING, f"turn {number + 1} is {turn['role']}"
    return ("", "") if turns[-1]["role"] == "assistant" else (ENDS_ON_USER, f"turn {len(turns)}")
