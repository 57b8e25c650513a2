"""A replacement that is counted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable


def substituted(
    pattern: re.Pattern[str], new: str | Callable[[re.Match[str]], str], text: str, rule: str, marks: Counter[str]
) -> str:
    """The text with ``new`` for what the pattern finds; ``marks`` counts under the rule how often."""
    text, times = pattern.subn(new, text)
    if times:
        marks[rule] += times
    return text
