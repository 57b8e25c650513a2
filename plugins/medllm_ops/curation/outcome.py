"""What a row-wise step did to one row: kept it, perhaps changed, or dropped it for a reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of ``step(row, settings)``, a pure function that never changes the row it is given.

    ``row`` is the row as it goes on, or None if it is dropped. ``reason`` is one of a few fixed phrases, so that it
    can be counted, and is empty for a row that stays; what is particular to this row (a length, a share) goes into
    ``detail``. ``marks`` counts what was done, by the name of the rule: ``{"unicode.zero_width": 3}``.

    :raises ValueError: if a row stays with a reason or is dropped without one.
    """

    row: dict[str, Any] | None
    reason: str = ""
    detail: str = ""
    marks: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        if (self.row is None) != bool(self.reason):
            raise ValueError(f"a row stays without a reason or is dropped with one, not this: {self}")

    @property
    def kept(self) -> bool:
        """Whether the row goes on to the next step."""
        return self.row is not None

    @classmethod
    def drop(cls, reason: str, detail: str = "", marks: Counter[str] | None = None) -> Outcome:
        """The outcome of a row that is left out."""
        return cls(row=None, reason=reason, detail=detail, marks=Counter() if marks is None else marks)
