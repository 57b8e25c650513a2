"""Rows that fit the model: documents cut into pieces, dialogues shortened by whole exchanges, the rest left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from medllm_ops.curation.settings import ChunkSettings, CurationSettings, TooLong
from medllm_ops.curation.write.chunk import cut_texts
from medllm_ops.curation.write.tokens import Tokenizer

Row: TypeAlias = dict[str, Any]

TOO_LONG: Final = "longer than max_tokens"
NOT_TO_CUT: Final = "no place to cut within max_tokens"


class Fitted(NamedTuple):
    """What becomes of a row: one row or several, or none, for a reason."""

    rows: list[Row]
    reason: str = ""
    detail: str = ""
    shortened: bool = False
    """Whether it is a dialogue without its first exchanges."""


@dataclass(frozen=True, slots=True)
class Room:
    """How many tokens a row may have.

    :param tokens: the template's included; ``overhead`` of them are the template's own, ``turn_overhead`` more for each
        turn.
    """

    tokens: int
    overhead: int
    turn_overhead: int
    dialogues: TooLong

    @classmethod
    def of(cls, settings: CurationSettings, name: str) -> Room:
        """The room that rows of a set have."""
        chunk: ChunkSettings = settings.chunk
        return cls(settings.max_tokens(name), chunk.overhead, chunk.turn_overhead, settings.dialogues(name))

    def for_text(self, turns: int) -> int:
        """The tokens that are left to the text of so many turns."""
        return self.tokens - self.overhead - turns * self.turn_overhead


def is_document(row: Mapping[str, Any]) -> bool:
    """Whether a row is a text for pretraining: one turn, the assistant's."""
    return "rejected_response" not in row and [message["role"] for message in row["messages"]] == ["assistant"]


def fit(rows: Sequence[Row], room: Room, tokenizer: Tokenizer) -> list[Fitted]:
    """Make each row fit: the row itself where it does. A piece has the row's id and ``#`` and its number, from 1 on."""
    fitted: list[Fitted] = [Fitted([row]) for row in rows]
    documents = [number for number, row in enumerate(rows) if is_document(row)]
    texts = [rows[number]["messages"][0]["content"] for number in documents]
    for number, pieces in zip(documents, cut_texts(texts, [room.for_text(1)] * len(texts), tokenizer), strict=True):
        fitted[number] = _document(rows[number], pieces)
    for number in sorted(set(range(len(rows))) - set(documents)):
        fitted[number] = _dialogue(rows[number], room, tokenizer)
    return fitted


def _document(row: Row, pieces: list[str] | None) -> Fitted:
    if pieces is None:
        return Fitted([], NOT_TO_CUT)
    if len(pieces) == 1:
        return Fitted([row])
    return Fitted(
        [
            {**row, "id": f"{row['id']}#{number}", "messages": [{"role": "assistant", "content": piece}]}
            for number, piece in enumerate(pieces, start=1)
        ]
    )


def _dialogue(row: Row, room: Room, tokenizer: Tokenizer) -> Fitted:
    """Leave the first exchanges out, as many as must be; the system turn and the last exchange stay."""
    messages = row["messages"]
    texts = [message["content"] for message in messages]
    rejected = row.get("rejected_response")
    if rejected is not None:
        texts.append(rejected)
    at_most = [tokenizer.at_most(text) for text in texts]
    if _tokens(at_most, rejected is not None) <= room.for_text(len(messages)):
        return Fitted([row])
    counts = tokenizer.counts(texts)
    before = 0
    while before < len(messages) and messages[before]["role"] == "system":
        before += 1
    # An exchange begins with the first question after an answer.
    starts = [before] + [
        number
        for number in range(before + 1, len(messages))
        if messages[number]["role"] != "assistant" and messages[number - 1]["role"] == "assistant"
    ]
    for start in starts:
        kept = [*messages[:before], *messages[start:]]
        if _tokens([*counts[:before], *counts[start:]], rejected is not None) <= room.for_text(len(kept)):
            return Fitted([row if start == before else {**row, "messages": kept}], shortened=start > before)
        if room.dialogues == "reject":
            break
    tokens = room.tokens - room.for_text(len(messages)) + _tokens(counts, rejected is not None)
    return Fitted([], TOO_LONG, f"{tokens} tokens with the template, {room.tokens} are allowed")


def _tokens(counts: Sequence[int], preference: bool) -> int:
    """The tokens of all turns; of a preference, those of the longer one of the two answers."""
    return sum(counts[:-2]) + max(counts[-2:]) if preference else sum(counts)
