"""The model's own identity: placeholders filled in by us, rows mixed with instruction rows.

ms-swift fills ``{{NAME}}`` and ``{{AUTHOR}}`` in only for a folder with a magic name, and leaves them in the
training text, with exit code 0, for a file (modelscope/ms-swift#2534).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json_lines, text_hash

SET_NAME = "self_cognition"
PLACEHOLDERS = ("{{NAME}}", "{{AUTHOR}}")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the model says it is, in Chinese and in English."""

    name_zh: str
    name_en: str
    author_zh: str
    author_en: str

    def name(self, language: str) -> str:
        """The model's name in ``zh`` or ``en``."""
        return self.name_zh if language == "zh" else self.name_en

    def author(self, language: str) -> str:
        """Its author in ``zh`` or ``en``."""
        return self.author_zh if language == "zh" else self.author_en


def identity_rows(path: Path, identity: Identity) -> list[dict[str, Any]]:
    """Read ``query, response, tag`` rows and fill the names in.

    :raises MedllmError: if a row lacks a field, has another tag than zh or en, or keeps a placeholder.
    """
    rows = []
    for number, row in enumerate(read_json_lines(path), start=1):
        if row.get("tag") not in ("zh", "en") or not row.get("query") or not row.get("response"):
            raise MedllmError(f"{path}, line {number}: an identity row needs query, response and tag (zh or en)")
        values = (identity.name(row["tag"]), identity.author(row["tag"]))
        query, response = row["query"], row["response"]
        for placeholder, value in zip(PLACEHOLDERS, values, strict=True):
            query, response = query.replace(placeholder, value), response.replace(placeholder, value)
        if "{{" in query + response:
            raise MedllmError(f"{path}, line {number}: unknown placeholder in {query + response!r}")
        # The id comes from the row as written: it is the same whatever the model is called.
        digest = text_hash(f"{row['query']}\n{row['response']}")[:16]
        turns = [{"role": "user", "content": query}, {"role": "assistant", "content": response}]
        rows.append({"id": f"identity:{digest}", "messages": turns, "language": row["tag"]})
    return rows


def rank(row: dict[str, Any], seed: int) -> str:
    """What decides whether a row is drawn: the lowest are."""
    return text_hash(f"{seed}:{row['id']}")


def draw(rows: Sequence[dict[str, Any]], count: int, seed: int) -> list[dict[str, Any]]:
    """Draw ``count`` rows by the hash of seed and id, so that the order of ``rows`` does not matter.

    Where there are fewer rows, all of them come again, each time under an id of its own, until the count is met.
    """
    ranked = sorted(rows, key=lambda row: rank(row, seed))
    drawn = []
    for number in range(count if ranked else 0):
        turn, index = divmod(number, len(ranked))
        row = ranked[index]
        drawn.append(row if turn == 0 else {**row, "id": f"{row['id']}#{turn + 1}"})
    return drawn


def mix(
    identity: Sequence[dict[str, Any]],
    general: Sequence[dict[str, Any]],
    counts: tuple[int, int],
    seed: int,
) -> list[dict[str, Any]]:
    """Draw ``counts`` identity and general rows and mix them in an order that depends only on seed and rows.

    The general rows keep the model from answering everything with its name.
    """
    drawn = [*draw(identity, counts[0], seed), *draw(general, counts[1], seed)]
    return sorted(drawn, key=lambda row: text_hash(f"mix:{seed}:{row['id']}"))
