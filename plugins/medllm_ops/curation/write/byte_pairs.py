"""Byte pair encoding by ranks, as Qwen's ``*.tiktoken`` files have it."""

from __future__ import annotations

import base64
from functools import cache
from itertools import pairwise


def read_ranks(content: bytes) -> dict[bytes, int]:
    """The rank of each token, out of the content of a ``*.tiktoken`` file."""
    pairs = (line.split() for line in content.splitlines() if line)
    return {base64.b64decode(token): int(rank) for token, rank in pairs}


def halves(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """The two tokens that are joined last into ``token``: merged as always, but never to the token itself."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        joined = [ranks.get(left + right, len(ranks)) for left, right in pairwise(parts)]
        at = min(range(len(joined)), key=joined.__getitem__)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts[0], parts[1]


def spell(token: bytes) -> str:
    """A token as ``tokenizer.json`` writes it: a visible letter for each byte (GPT-2's table)."""
    letters = _byte_letters()
    return "".join(letters[byte] for byte in token)


@cache
def _byte_letters() -> list[str]:
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]
