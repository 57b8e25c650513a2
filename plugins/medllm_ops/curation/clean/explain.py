"""What cleaning does to one record, rule by rule: the logic of ``medllm-ops curate explain``."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from medllm_ops.curation.clean.clean import Watch, run
from medllm_ops.curation.clean.settings import CleanSettings
from medllm_ops.curation.outcome import Outcome

MOST_CHANGES = 20
MOST_CHARACTERS = 120
_MOST_PIECES = 4_000
_PIECE = re.compile(r"\n|[^\S\n]+|[A-Za-z0-9]+|.", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Change:
    """A piece of text before and after a rule, each cut to :data:`MOST_CHARACTERS`."""

    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Step:
    """What one rule did to one text of the record.

    ``place`` is ``"turn 2, assistant"`` or ``"rejected response"``; ``marks`` counts what was done, by name;
    ``changes`` shows the first :data:`MOST_CHANGES`.
    """

    place: str
    rule: str
    marks: dict[str, int]
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """A record before and after, what was done in between, in order, and why it was left out, if it was."""

    before: Any
    outcome: Outcome
    steps: tuple[Step, ...]

    def lines(self) -> list[str]:
        """The explanation as lines to print."""
        told = []
        for step in self.steps:
            counts = ", ".join(f"{name} ×{times}" for name, times in sorted(step.marks.items()))
            told.append(f"{step.place}: {step.rule}" + (f" ({counts})" if counts else ""))
            told += [f"    {change.before!r} → {change.after!r}" for change in step.changes]
        rest = self.outcome.marks - sum((Counter(step.marks) for step in self.steps), Counter())
        told += [f"record: {name} ×{times}" for name, times in sorted(rest.items())]
        if self.outcome.kept:
            told.append("kept" if told else "kept, nothing to clean")
        else:
            told.append(
                f"dropped: {self.outcome.reason}" + (f" ({self.outcome.detail})" if self.outcome.detail else "")
            )
        return told


def explain(row: dict[str, Any], settings: CleanSettings) -> Explanation:
    """Clean one row and tell what each rule did to it; the same code as :func:`clean`, so it cannot tell otherwise."""
    steps: list[Step] = []

    def watch(place: str) -> Watch:
        def note(rule: str, marks: Counter[str], before: str, after: str) -> None:
            steps.append(Step(place, rule, dict(marks), changes_between(before, after)))

        return note

    return Explanation(before=row, outcome=run(row, settings, watch), steps=tuple(steps))


def changes_between(before: str, after: str) -> tuple[Change, ...]:
    """The first pieces in which two texts differ."""
    old, new = _PIECE.findall(before), _PIECE.findall(after)
    start = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    longest = min(len(old), len(new)) - start
    end = next((i for i in range(longest) if old[-1 - i] != new[-1 - i]), longest)
    old, new = old[start : len(old) - end], new[start : len(new) - end]
    if len(old) > _MOST_PIECES or len(new) > _MOST_PIECES:
        return (Change(_cut("".join(old)), _cut("".join(new))),)
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    changes = [
        Change(_cut("".join(old[a:b])), _cut("".join(new[c:d])))
        for kind, a, b, c, d in matcher.get_opcodes()
        if kind != "equal"
    ]
    return tuple(changes[:MOST_CHANGES])


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"
