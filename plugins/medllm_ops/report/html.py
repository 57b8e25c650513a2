"""The report as one HTML page that needs nothing but itself: no network, no other file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from medllm_ops.report import charts
from medllm_ops.report.model import ModelLabel, Report

ABSENT = "–"
STAGE_TITLES = {"pretrain": "continued pretraining", "sft": "instruction tuning", "self_cognition": "self-cognition"}
_FOLDER = Path(__file__).parent


def render(report: Report) -> str:
    """Return the page. Whatever a model, a file or a user wrote is text in it, never markup."""
    from plotly.offline import get_plotlyjs

    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": count,
        "decimal": decimal,
        "scientific": scientific,
        "duration": duration,
        "change": change,
        "moment": moment,
        "plain": plain,
        "stage": lambda name: STAGE_TITLES.get(name, name),
    }
    scripts = {"plotly": get_plotlyjs(), "draw": (_FOLDER / "draw.js").read_text(encoding="utf-8")}
    return environment.get_template("report.html.jinja").render(
        report=report,
        failed=[gate for gate in report.gates if gate.enforced and not gate.passed],
        told=[gate for gate in report.gates if not gate.enforced and not gate.passed],
        stages=list(dict.fromkeys([*STAGE_TITLES, *report.wanted.stages])),
        figures={stage.name: stage for stage in report.stages},
        merges={merge.stage: merge for merge in report.merges},
        labels=[label for label in charts.MODEL_TITLES if any(label in row for row in report.heldout.values())],
        set_stages={each.name: each.stage for each in report.sets},
        set_rows={each.name: each.heldout_rows for each in report.sets},
        spans=spans(report),
        charts=charts,
        style=Markup((_FOLDER / "report.css").read_text(encoding="utf-8")),
        scripts={name: Markup(script) for name, script in scripts.items()},
        policy=policy(scripts),
    )


def policy(scripts: Mapping[str, str]) -> str:
    """A content security policy that lets these scripts run and no other, and nothing be fetched."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts.values()
    )
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"


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


def count(value: int | None) -> str:
    """``12,345``."""
    return ABSENT if value is None else f"{value:,}"


def decimal(value: float | None, digits: int = 3, signed: bool = False) -> str:
    """``2.718``; with a true minus sign."""
    if value is None:
        return ABSENT
    return f"{value:{'+' if signed else ''},.{digits}f}".replace("-", "−")


def scientific(value: float | None) -> str:
    """``1.2e−07``; 0 is exact."""
    return ABSENT if value is None else "0" if value == 0 else f"{value:.2g}".replace("-", "−")


def duration(seconds: float | None) -> str:
    """``0.4 s``, ``12 s``, ``3 min 05 s``, ``2 h 07 min``."""
    if seconds is None:
        return ABSENT
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left:02d} min" if hours else f"{minutes} min {rest:02d} s"


def moment(text: str | None) -> str:
    """An ISO 8601 time as a person writes it, with its offset from UTC."""
    if text is None:
        return ABSENT
    return datetime.fromisoformat(text).strftime("%d %B %Y, %H:%M %z").strip()


def plain(value: Any) -> str:
    """A parameter's value in words."""
    if value is None or value in ("", []):
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(str(each) for each in value)
    return str(value)
