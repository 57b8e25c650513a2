"""What the verdict rests on, and the words of its sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from medllm_ops.report.data.contents import Contents
from medllm_ops.report.data.model import (
    Account,
    Comparison,
    Decontamination,
    Funnel,
    Licences,
    Mark,
    Reason,
)

_NAMED = 3


@dataclass(frozen=True, slots=True)
class Known:
    """Everything that is known of the dataset."""

    sources: list[Funnel]
    accounts: list[Account]
    reasons: list[Reason]
    licences: list[Licences]
    marks: list[Mark]
    decontamination: Decontamination
    comparison: Comparison | None
    contents: Contents
    settings: dict[str, Any]
    incomplete: list[str]

    @property
    def alive(self) -> list[Funnel]:
        """The sources of which a row was written."""
        return [each for each in self.sources if each.train + each.val]


def many(number: int, one: str, more: str | None = None) -> str:
    """``1 row``, ``2,000 rows``; ``more`` is the plural where it is not ``one`` with an s."""
    return f"{number:,} {one if number == 1 else more or f'{one}s'}"


def percent(part: float, whole: float) -> str:
    """``12 %``, ``0.4 %``, ``<0.1 %``, ``99.8 %``: never 0 for something, never 100 for less than all."""
    if not whole or not part:
        return "0 %"
    share = 100 * part / whole
    if share < 0.1:
        return "<0.1 %"
    if part < whole and share > 99.9:
        return ">99.9 %"
    return f"{share:.1f} %" if share < 10 or 99 < share < 100 else f"{share:.0f} %"


def listed(names: Sequence[str], most: int = _NAMED) -> str:
    """``a``, ``a and b``, ``a, b, c and 4 more``."""
    shown, more = list(names[:most]), len(names) - most
    if more > 0:
        shown.append(f"{more:,} more")
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1] if shown else "")))
