"""The report of a dataset as one HTML page. Nothing of it is trusted: rows come from anywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from medllm_ops.report.data import charts, drift
from medllm_ops.report.data.known import many, percent
from medllm_ops.report.data.model import DataReport, Drift, Funnel, Mark
from medllm_ops.report.data.text import SCRIPTS, quoted, visible
from medllm_ops.report.page import render_page

_FOLDER = Path(__file__).parent
TITLES = {"wrong": "Wrong", "look": "To look at", "good": "Nothing wrong"}
SCRUB = "scrub"
_HEAD_FINDINGS = ("wrong", "look")


def render(report: DataReport) -> str:
    """Return the page."""
    steps = list(dict.fromkeys(step.step for funnel in report.sources for step in funnel.steps))
    context = {
        "report": report,
        "title": TITLES[report.level],
        "headline": headline(report),
        "urgent": [finding for finding in report.findings if finding.level in _HEAD_FINDINGS],
        "notes": [finding for finding in report.findings if finding.level == "note"],
        "steps": steps,
        "step_drops": {step: sum(dropped_in(funnel, step) or 0 for funnel in report.sources) for step in steps},
        "marks": marks_table(report.marks),
        "begins": sorted({begin for each in report.lengths for begin in each.begins}),
        "highest": charts.highest_share(report.lengths),
        "licence_total": sum((Counter(each.rows) for each in report.licences), Counter()),
        "drift_table": drift_table(report.comparison.drifts if report.comparison else ()),
        "scripts_shown": SCRIPTS,
        "settings": list(flat(report.settings)),
        "manifest": list(flat(report.manifest)),
        "limits": drift,
        "charts": charts,
        "dropped_in": dropped_in,
    }
    filters: dict[str, Callable[..., Any]] = {"quoted": quoted, "percent": percent, "many": many}
    return render_page(_FOLDER / "data.html.jinja", context, filters, (_FOLDER / "data.css",), _visible)


def headline(report: DataReport) -> str:
    """The verdict in a few words."""
    count = Counter(finding.level for finding in report.findings)
    if not count["wrong"] and not count["look"]:
        return f"{TITLES['good']}: {many(count['good'], 'check')} passed"
    wrong, look = (many(count[level], "thing") for level in ("wrong", "look"))
    if not count["wrong"]:
        return f"{TITLES['look']}: {look}"
    return f"{TITLES['wrong']}: {wrong}" + (f"; to look at: {count['look']:,} more" if count["look"] else "")


def _visible(value: Any) -> Any:
    """Every value that is text and no markup, with what cannot be seen made visible."""
    return visible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def dropped_in(funnel: Funnel, step: str) -> int | None:
    """How many rows of a source a step dropped; None if the source never came to it."""
    steps = [each for each in funnel.steps if each.step == step]
    return sum(sum(each.dropped.values()) for each in steps) if steps else None


def marks_table(marks: Iterable[Mark]) -> dict[str, dict[str, dict[str, int]]]:
    """Counts by step (scrubbing first), rule and source; the most frequent rules first."""
    table: dict[str, dict[str, dict[str, int]]] = {}
    for mark in sorted(marks, key=lambda mark: mark.step != SCRUB):
        table.setdefault(mark.step, {}).setdefault(mark.rule, {})[mark.source] = mark.count
    return {
        step: dict(sorted(rules.items(), key=lambda item: (-sum(item[1].values()), item[0])))
        for step, rules in table.items()
    }


def drift_table(drifts: Iterable[Drift]) -> dict[str | None, dict[str, Drift]]:
    """The drifts by source, that of all together (None) first, and by what drifted."""
    table: dict[str | None, dict[str, Drift]] = {}
    for each in drifts:
        table.setdefault(each.source, {})[each.what] = each
    return table


def flat(values: Any, name: str = "") -> Iterable[tuple[str, Any]]:
    """Nested settings as names with dots, and their values."""
    if isinstance(values, dict) and (values or not name):
        for key, value in values.items():
            yield from flat(value, f"{name}.{key}" if name else str(key))
    elif isinstance(values, list) and any(isinstance(each, dict) for each in values):
        for number, value in enumerate(values):
            yield from flat(value, f"{name}.{number}")
    else:
        yield name, values
