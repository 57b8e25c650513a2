from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medllm_ops.curation.settings import CurationSettings, SetSettings
from medllm_ops.curation.write.fit import NOT_TO_CUT, TOO_LONG, Room, fit
from medllm_ops.curation.write.tokens import Tokenizer

Row = dict[str, Any]
ROLES = {"s": "system", "u": "user", "a": "assistant"}


def dialogue(turns: str, words: int = 5, **more: Any) -> Row:
    messages = [{"role": ROLES[role], "content": f"{number} " + "dose " * words} for number, role in enumerate(turns)]
    return {"id": "d", "messages": messages, **more}


def roles(row: Row) -> str:
    return "".join(message["role"][0] for message in row["messages"])


def tokens(row: Row, room: Room, tokenizer: Tokenizer) -> int:
    counts = tokenizer.counts([message["content"] for message in row["messages"]])
    if "rejected_response" in row:
        counts[-1] = max(counts[-1], tokenizer.counts([row["rejected_response"]])[0])
    return room.overhead + sum(counts) + room.turn_overhead * len(counts)


def test_a_long_document_becomes_numbered_pieces(tokenizer: Tokenizer) -> None:
    text = "The dose was given. " * 60
    row = {"id": "pubmed:1", "messages": [{"role": "assistant", "content": text}]}
    room = Room(100, 10, 5, "shorten")
    ((pieces, reason, _, shortened),) = fit([row], room, tokenizer)
    assert [piece["id"] for piece in pieces] == [f"pubmed:1#{number}" for number in range(1, len(pieces) + 1)]
    assert (reason, shortened) == ("", False)
    assert len(pieces) > 2
    assert " ".join(piece["messages"][0]["content"] for piece in pieces) == text.strip()
    assert max(tokens(piece, room, tokenizer) for piece in pieces) <= 100
    assert fit([row], Room(5000, 10, 5, "shorten"), tokenizer)[0].rows == [row]


def test_a_document_without_a_place_to_cut_is_left_out(tokenizer: Tokenizer) -> None:
    row = {"id": "x", "messages": [{"role": "assistant", "content": "a" + "\u0301" * 500}]}
    assert fit([row], Room(64, 0, 0, "shorten"), tokenizer)[0] == ([], NOT_TO_CUT, "", False)


@pytest.mark.parametrize(
    ("turns", "left"),
    [("uaua", "ua"), ("suaua", "sua"), ("suauaua", "sua"), ("uaauua", "uua"), ("auaua", "ua"), ("ua", "ua")],
)
def test_the_first_exchanges_go(tokenizer: Tokenizer, turns: str, left: str) -> None:
    row = dialogue(turns, 30)
    whole = dialogue(left, 30)
    room = Room(tokens(whole, Room(0, 8, 4, "shorten"), tokenizer), 8, 4, "shorten")
    (fitted,) = fit([row], room, tokenizer)
    assert roles(fitted.rows[0]) == "".join(left)
    assert fitted.rows[0]["messages"][-1] == row["messages"][-1]
    assert fitted.rows[0]["id"] == "d"
    assert fitted.shortened == (turns != left)


def test_a_last_exchange_too_long_is_left_out_and_told(tokenizer: Tokenizer) -> None:
    room = Room(60, 8, 4, "shorten")
    (fitted,) = fit([dialogue("uaua", 100)], room, tokenizer)
    assert (fitted.rows, fitted.reason) == ([], TOO_LONG)
    told = tokens(dialogue("uaua", 100), room, tokenizer)
    assert fitted.detail == f"{told} tokens with the template, 60 are allowed"


def test_reject_shortens_nothing(tokenizer: Tokenizer) -> None:
    row = dialogue("uaua", 20)
    limit = tokens(dialogue("ua", 20), Room(0, 8, 4, "reject"), tokenizer)
    assert fit([row], Room(limit, 8, 4, "shorten"), tokenizer)[0].shortened
    assert fit([row], Room(limit, 8, 4, "reject"), tokenizer)[0].reason == TOO_LONG
    assert fit([row], Room(4 * limit, 8, 4, "reject"), tokenizer)[0].rows == [row]


def test_of_a_preference_the_longer_answer_counts(tokenizer: Tokenizer) -> None:
    row = dialogue("ua", 5, rejected_response="dose " * 60)
    need = tokens(row, Room(0, 8, 4, "shorten"), tokenizer)
    assert fit([row], Room(need, 8, 4, "shorten"), tokenizer)[0].rows == [row]
    assert fit([row], Room(need - 1, 8, 4, "shorten"), tokenizer)[0].reason == TOO_LONG
    # One turn and a worse one are a preference, which is not cut.
    lone = {**dialogue("a", 80), "rejected_response": "no"}
    assert fit([lone], Room(60, 8, 4, "shorten"), tokenizer)[0].reason == TOO_LONG


@given(st.text("sua", min_size=1, max_size=9), st.integers(0, 30), st.integers(20, 200))
def test_whatever_stays_fits_and_ends_as_before(tokenizer: Tokenizer, turns: str, words: int, limit: int) -> None:
    row = dialogue(turns, words)
    room = Room(limit, 8, 4, "shorten")
    (fitted,) = fit([row], room, tokenizer)
    assert bool(fitted.rows) != bool(fitted.reason)
    for one in fitted.rows:
        assert tokens(one, room, tokenizer) <= limit
    if turns != "a" and fitted.rows:
        messages = fitted.rows[0]["messages"]
        assert messages[-1] == row["messages"][-1]
        assert [turn for turn in row["messages"] if turn in messages] == messages


def test_each_row_has_its_own_answer(tokenizer: Tokenizer) -> None:
    rows = [dialogue("ua", 300), dialogue("a", 300), dialogue("ua", 2), dialogue("a", 2)]
    room = Room(100, 8, 4, "shorten")
    assert fit(rows, room, tokenizer) == [fit([row], room, tokenizer)[0] for row in rows]


def test_room_of_a_set() -> None:
    chosen = CurationSettings(sets={"a": SetSettings(max_tokens=500, dialogues="reject")})
    assert Room.of(chosen, "a") == Room(500, 32, 8, "reject")
    assert Room.of(chosen, "b") == Room(2048, 32, 8, "shorten")
