"""What the tests of scrubbing share: rows, and where in a text something was replaced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from medllm_ops.curation.scrub import MARK, ScrubSettings, scrub_text

Row = Callable[..., dict[str, Any]]
Scrubbed = Callable[..., str]
Regions = Callable[[str], list[tuple[int, int, str]]]


@pytest.fixture(scope="session")
def row() -> Row:
    def make(*contents: str, **fields: Any) -> dict[str, Any]:
        turns = [{"role": ("assistant", "user")[place % 2], "content": text} for place, text in enumerate(contents)]
        return {"id": "made:1", "messages": turns, "source": "made", "language": "zh", "title": "", **fields}

    return make


@pytest.fixture(scope="session")
def scrubbed() -> Scrubbed:
    """The text after scrubbing."""

    def scrub(text: str, **settings: Any) -> str:
        return scrub_text(text, ScrubSettings(**settings))[0]

    return scrub


@pytest.fixture(scope="session")
def regions() -> Regions:
    """The places in a text that were replaced: start, end, kind."""

    def find(text: str) -> list[tuple[int, int, str]]:
        scrubbed, replaced = scrub_text(text, ScrubSettings())
        found, place, end = [], 0, 0
        for match, what in zip(MARK.finditer(scrubbed), replaced, strict=bool(replaced)):
            place += match.start() - end
            length = len(match[0]) if what is None else len(what.shape)
            if what is not None:
                found.append((place, place + length, what.kind))
            place, end = place + length, match.end()
        return found

    return find
