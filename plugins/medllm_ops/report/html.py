"""The report of a run as one HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medllm_ops.report import charts
from medllm_ops.report.model import ModelLabel, Report
from medllm_ops.report.page import render_page

STAGE_TITLES = {
    "pretrain": "continued pretraining",
    "sft": "instruction tuning",
    "self_cognition": "self-cognition",
    "dpo": "alignment",
}
_TEMPLATE = Path(__file__).with_name("report.html.jinja")


def render(report: Report) -> str:
    """Return the page. Whatever a model, a file or a user wrote is text in it, never markup."""
    context = {
        "report": report,
        "failed": [gate for gate in report.gates if gate.enforced and not gate.passed],
        "told": [gate for gate in report.gates if not gate.enforced and not gate.passed],
        # Alignment is a stage that most runs do not have: it is not told there that it was off.
        "stages": [name for name in STAGE_TITLES if name != "dpo" or name in report.wanted.stages],
        "figures": {stage.name: stage for stage in report.stages},
        "merges": {merge.stage: merge for merge in report.merges},
        "labels": [label for label in charts.MODEL_TITLES if any(label in row for row in report.heldout.values())],
        "set_stages": {each.name: each.stage for each in report.sets},
        "set_rows": {each.name: each.heldout_rows for each in report.sets},
        "spans": spans(report),
        "charts": charts,
    }
    return render_page(_TEMPLATE, context, {"change": change, "stage": lambda name: STAGE_TITLES.get(name, name)})


def spans(report: Report) -> list[dict[str, Any]]:
    """The tasks one after the other: where each begins and how wide it is, in per cent of the whole."""
    total = sum(timing.seconds or 0.0 for timing in report.timings)
    begun = 0.0
    rows = []
    for timing in report.timings:
        seconds = timing.seconds or 0.0
        share = 100 / total if total else 0.0
        rows.append({"timing": timing, "left": begun * share, "width": seconds * share})
        begun += seconds
    return rows


def change(losses: Mapping[ModelLabel, float | None], label: ModelLabel) -> float | None:
    """By how many per cent a model's loss differs from that of the model before it; below zero is better."""
    order = [each for each in charts.MODEL_TITLES if losses.get(each) is not None]
    if label not in order or order.index(label) == 0:
        return None
    new, old = losses[label], losses[order[order.index(label) - 1]]
    return None if new is None or not old else (new / old - 1) * 100
