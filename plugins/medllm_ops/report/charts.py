"""The plots of the report, as plotly figures in JSON. Their inks come from the page, so they follow its theme."""

from __future__ import annotations

from collections.abc import Sequence

from medllm_ops.report.figure import stacked_shares, to_json
from medllm_ops.report.model import ModelLabel, Report, StageFigures
from medllm_ops.report.rows import SourceFlow

# Legible on white and on near black alike. A stage has one colour through the whole page.
BASE, PRETRAIN, SFT, FINAL, ALIGNED = "#94a3b8", "#0d9488", "#4f7fd6", "#8b5cf6", "#c2559b"
STAGE_COLOURS = {"pretrain": PRETRAIN, "sft": SFT, "self_cognition": FINAL, "dpo": ALIGNED}
VALIDATION = "#ea7a35"
MODEL_COLOURS: dict[ModelLabel, str] = {
    "base": BASE,
    "pretrain": PRETRAIN,
    "sft": SFT,
    "self_cognition": "#c4b5fd",
    "final": FINAL,
}
MODEL_TITLES: dict[ModelLabel, str] = {
    "base": "base",
    "pretrain": "after pretraining",
    "sft": "after instruction tuning",
    "self_cognition": "after self-cognition",
    "final": "final",
}
_FATES = (
    ("train", "trained on", PRETRAIN),
    ("val", "held out", "#5eead4"),
    ("convert", "rejected in conversion", "#e2a05f"),
    ("clean", "out in cleaning", "#cbb26a"),
    ("deduplicate", "duplicate", "#b7a3c9"),
    ("decontaminate", "overlaps with evaluation", "#c98fa8"),
    ("split", "out in split and sample", "#8fb3c9"),
    ("chunk", "too long, or its stage is off", "#a8b98a"),
    ("export", "out in the export", "#94a3b8"),
)


def loss_curve(stage: StageFigures) -> str:
    """The training loss of a stage as a line, the losses on its validation files as points on another."""
    from plotly import graph_objects

    figure = graph_objects.Figure()
    lines = (
        ("train", stage.curve.train, STAGE_COLOURS.get(stage.name, SFT), 2.0),
        ("validation", stage.curve.val, VALIDATION, 1.5),
    )
    for name, points, colour, width in lines:
        markers = name == "validation" or len(points) < 2
        figure.add_scatter(
            x=[step for step, _ in points],
            y=[loss for _, loss in points],
            name=name,
            mode="lines+markers" if markers else "lines",
            line={"color": colour, "width": width},
            marker={"size": 7, "color": colour},
            hovertemplate="step %{x}: %{y:.4f}",
        )
    figure.update_xaxes(title="step", rangemode="tozero")
    figure.update_yaxes(title="loss" if stage.name == "dpo" else "loss (nats per token)")
    return to_json(figure, height=270)


def reward_curve(stage: StageFigures, name: str) -> str:
    """The margin or the accuracy of an alignment by step, in training as a line and in validation as points.

    :param name: ``margin`` or ``accuracy``.
    """
    from plotly import graph_objects

    figure = graph_objects.Figure()
    for title, points, colour in (
        ("train", getattr(stage.reward_curve, name), ALIGNED),
        ("validation", getattr(stage.reward_curve, f"eval_{name}"), VALIDATION),
    ):
        figure.add_scatter(
            x=[step for step, _ in points],
            y=[value for _, value in points],
            name=title,
            mode="lines+markers" if title == "validation" or len(points) < 2 else "lines",
            line={"color": colour, "width": 1.5},
            marker={"size": 7, "color": colour},
            hovertemplate="step %{x}: %{y:.4f}",
        )
    figure.update_xaxes(title="step", rangemode="tozero")
    figure.update_yaxes(title="reward margin" if name == "margin" else "share of pairs")
    return to_json(figure, height=270)


def fates(flows: Sequence[SourceFlow]) -> str:
    """Where each source's rows went, in per cent: trained on, held out, or left out by which step."""
    return stacked_shares(
        [flow.source for flow in flows],
        [flow.raw + flow.cut for flow in flows],
        ((title, colour, [_count(flow, key) for flow in flows]) for key, title, colour in _FATES),
        "share of rows, pieces of long ones counted",
        height=120 + 38 * len(flows),
    )


def _count(flow: SourceFlow, key: str) -> int:
    if key in ("train", "val"):
        return (flow.train if key == "train" else flow.val) or 0
    return sum(sum(reasons.values()) for step, reasons in flow.dropped.items() if step == key)


def held_out(report: Report) -> str:
    """The held-out loss of each source, a point for each model, joined from the first to the last."""
    from plotly import graph_objects

    names = list(report.heldout)
    figure = graph_objects.Figure()
    xs: list[float | None] = []
    ys: list[str | None] = []
    for name in names:
        known = [loss for loss in report.heldout[name].values() if loss is not None]
        if known:
            xs += [min(known), max(known), None]
            ys += [name, name, None]
    figure.add_scatter(
        x=xs,
        y=ys,
        mode="lines",
        line={"color": "rgba(148,163,184,.45)", "width": 5},
        hoverinfo="skip",
        showlegend=False,
    )
    for label, colour in MODEL_COLOURS.items():
        losses = [report.heldout[name].get(label) for name in names]
        if any(loss is not None for loss in losses):
            figure.add_scatter(
                x=losses,
                y=names,
                mode="markers",
                name=MODEL_TITLES[label],
                marker={"color": colour, "size": 12, "symbol": "diamond" if label == "final" else "circle"},
                hovertemplate="%{x:.4f}",
            )
    figure.update_layout(hovermode="y unified")
    figure.update_xaxes(title="held-out loss (nats per token)")
    figure.update_yaxes(autorange="reversed", ticksuffix="  ", categoryorder="array", categoryarray=names)
    return to_json(figure, height=130 + 36 * len(names))
