"""The verdict on a dataset: what is wrong, what a person should look at, and what is as it should be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from medllm_ops.report.data import checks, comparison_checks
from medllm_ops.report.data.known import Known
from medllm_ops.report.data.model import Finding, Level

LEVELS: Final[tuple[Level, ...]] = ("wrong", "look", "note", "good")
_CHECKS: Final[tuple[Callable[[Known], Iterator[Finding]], ...]] = (
    checks.balance,
    checks.sides,
    checks.validation,
    checks.validation_share,
    checks.lost,
    checks.unreadable,
    checks.retracted,
    checks.licences,
    checks.decontaminated,
    checks.scrubbed,
    comparison_checks.sides_kept,
    comparison_checks.retracted_since,
    comparison_checks.rows_changed,
    comparison_checks.drifted,
    comparison_checks.settings_changed,
    checks.complete,
)


def judge(known: Known) -> list[Finding]:
    """All findings, the worst first, else in the order of the page."""
    findings = [finding for check in _CHECKS for finding in check(known)]
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))


def worst(findings: Iterable[Finding]) -> Level:
    """The level of the worst of them; a note is no fault."""
    levels = {finding.level for finding in findings}
    return "wrong" if "wrong" in levels else "look" if "look" in levels else "good"
