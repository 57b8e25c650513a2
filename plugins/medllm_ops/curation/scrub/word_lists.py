"""The word lists in ``words/``: surnames, and what looks like a name and is none."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).with_name("words")


def word_list(name: str) -> tuple[str, ...]:
    """The words of ``words/<name>.txt``, between white space, in their order."""
    return tuple((_FOLDER / f"{name}.txt").read_text(encoding="utf-8").split())
