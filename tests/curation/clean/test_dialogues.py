from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medllm_ops.curation.clean.dialogues import with_roles_in_order
from medllm_ops.curation.clean.settings import DialogueSettings

DROP = DialogueSettings()
REPAIR = DialogueSettings(faults="repair")


def turns(spec: str) -> list[dict[str, Any]]:
    """``"s u a a."``: roles by letter; a full stop behind it: an empty turn."""
    roles = {"s": "system", "u": "user", "a": "assistant", "x": "tool"}
    return [
        {"role": roles[turn[0]], "content": "" if turn.endswith(".") else f"{turn[0]}{number}"}
        for number, turn in enumerate(spec.split())
    ]


def result(spec: str, settings: DialogueSettings) -> tuple[list[str], str, Counter[str]]:
    marks: Counter[str] = Counter()
    messages, reason, _ = with_roles_in_order(turns(spec), settings, marks)
    return [message["content"] for message in messages], reason, marks


@pytest.mark.parametrize("spec", ["u a", "s u a", "u a u a", "s u a u a"])
def test_good_dialogues_pass_unchanged(spec: str) -> None:
    for settings in (DROP, REPAIR):
        messages, reason, marks = result(spec, settings)
        assert (messages, reason, marks) == ([turn["content"] for turn in turns(spec)], "", Counter())


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("", "no turns"),
        ("s", "no turns"),
        ("u a u", "ends on the user's turn"),
        ("u", "ends on the user's turn"),
        ("a u a", "does not begin with the user"),
        ("u u a", "roles do not alternate"),
        ("u a a", "roles do not alternate"),
        ("u a. u a", "empty turn"),
        ("u. a", "empty turn"),
        ("u s a", "unknown role"),
        ("x u a", "unknown role"),
        ("s s u a", "unknown role"),
    ],
)
def test_faults_are_dropped_with_their_reason(spec: str, reason: str) -> None:
    assert result(spec, DROP)[:2] == ([], reason)


@pytest.mark.parametrize(
    ("spec", "expected", "marks"),
    [
        ("u a u", ["u0", "a1"], {"dialogue.unanswered_turn": 1}),
        ("a u a", ["u1", "a2"], {"dialogue.greeting": 1}),
        ("u u a", ["u0\nu1", "a2"], {"dialogue.joined_turns": 1}),
        ("s u a a", ["s0", "u1", "a2\na3"], {"dialogue.joined_turns": 1}),
        ("u a. u a", ["u0\nu2", "a3"], {"dialogue.empty_turn": 1, "dialogue.joined_turns": 1}),
        ("s. u a", ["u1", "a2"], {"dialogue.empty_turn": 1}),
    ],
)
def test_faults_are_repaired_if_set_and_counted(spec: str, expected: list[str], marks: dict[str, int]) -> None:
    assert result(spec, REPAIR) == (expected, "", Counter(marks))


@pytest.mark.parametrize(("spec", "reason"), [("u", "no turns"), ("a a", "no turns"), ("u x a", "unknown role")])
def test_what_cannot_be_repaired_is_dropped(spec: str, reason: str) -> None:
    assert result(spec, REPAIR)[:2] == ([], reason)


def test_there_are_at_most_so_many_turns() -> None:
    assert result("u a u a", DialogueSettings(max_turns=2))[1] == "too many turns"


@given(st.lists(st.sampled_from(["s", "u", "a", "u.", "a.", "x"]), max_size=8), st.sampled_from([DROP, REPAIR]))
def test_whatever_passes_is_a_dialogue(spec: list[str], settings: DialogueSettings) -> None:
    given_turns = turns(" ".join(spec))
    marks: Counter[str] = Counter()
    messages, reason, _ = with_roles_in_order(given_turns, settings, marks)
    assert bool(messages) != bool(reason)
    assert given_turns == turns(" ".join(spec))
    if messages:
        dialogue = messages[messages[0]["role"] == "system" :]
        assert [turn["role"] for turn in dialogue] == ["user", "assistant"] * (len(dialogue) // 2)
        assert dialogue
        assert all(turn["content"] for turn in messages)
        assert with_roles_in_order(messages, settings, Counter())[0] == messages
