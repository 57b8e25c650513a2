"""The plots of the data report, as plotly figures in JSON, and histograms small enough for a cell of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

from medllm_ops.report.charts import PRETRAIN, SFT, VALIDATION
from medllm_ops.report.data.model import Drift, Funnel, Lengths
from medllm_ops.report.data.text import visible
from medllm_ops.report.figure import stacked_shares, to_json

# What was written in two strong colours, what went in the order of the steps in paler ones.
WRITTEN: Final = {"train": ("train", PRETRAIN), "val": ("validation", VALIDATION)}
STEP_COLOURS: Final = {
    "read": "#9f1239",
    "clean": "#d97794",
    "scrub": "#c084fc",
    "exact dedup": "#cbb26a",
    "near dedup": "#e2cf9a",
    "decontaminate": "#4f7fd6",
    "split": "#8fb4ee",
    "sample": "#94a3b8",
    "chunk": "#64748b",
}
_OTHER: Final = "#7c8796"
_BAR, _HEIGHT = 9, 30


def fates(sources: Sequence[Funnel]) -> str:
    """Where the rows of each source went, in per cent: written to which side, or left out by which step."""
    shown = [each for each in sources if each.read]
    steps = dict.fromkeys(step.step for each in shown for step in each.steps)
    last = {each.source: each.steps[-1].rows_out if each.steps else 0 for each in shown}
    bars = [
        (
            title,
            colour,
            [round(last[each.source] * _share(getattr(each, side), each.train + each.val)) for each in shown],
        )
        for side, (title, colour) in WRITTEN.items()
    ]
    for name in steps:
        rows = [sum(sum(step.dropped.values()) for step in each.steps if step.step == name) for each in shown]
        bars.append((name, STEP_COLOURS.get(name, _OTHER), rows))
    return stacked_shares(
        [visible(each.source) or "no source" for each in shown],
        [each.read for each in shown],
        ((visible(title), colour, rows) for title, colour, rows in bars),
        "share of the rows read",
        height=140 + 34 * len(shown),
    )


def before_and_now(drift: Drift) -> str:
    """A distribution before and now, a pair of bars for each bin."""
    from plotly import graph_objects

    figure = graph_objects.Figure()
    names = [visible(each.name) for each in drift.bins]
    for title, colour, shares in (
        ("before", "#94a3b8", [100 * each.before for each in drift.bins]),
        ("now", SFT, [100 * each.now for each in drift.bins]),
    ):
        figure.add_bar(
            x=names,
            y=shares,
            name=title,
            marker={"color": colour, "line": {"width": 0}},
            hovertemplate="%{y:.1f} %",
        )
    figure.update_layout(barmode="group", bargap=0.25, bargroupgap=0.05, hovermode="x unified")
    figure.update_yaxes(ticksuffix=" %", rangemode="tozero", nticks=5)
    figure.update_xaxes(type="category")
    return to_json(figure, height=250)


def histogram(lengths: Lengths, begins: Sequence[int], highest: float) -> Markup:
    """The shares of rows in the bins that begin at ``begins``; a share of ``highest`` is a bar of the whole height."""
    total = sum(lengths.rows)
    rows = dict(zip(lengths.begins, lengths.rows, strict=True))
    width = _BAR * len(begins)
    bars = Markup("")
    for place, begin in enumerate(begins):
        height = _HEIGHT * _share(rows.get(begin, 0), total) / highest if highest else 0
        # A bin with a single row of a million must be seen.
        height = max(height, 1.5) if rows.get(begin) else 0
        bars += Markup('<rect x="{}" y="{:.2f}" width="{}" height="{:.2f}"/>').format(
            place * _BAR, _HEIGHT - height, _BAR - 1, height
        )
    label = f"Lengths: half of the rows have fewer than {median_bound(lengths):,} characters."
    return Markup(
        '<svg class="histogram {}" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>'
    ).format(lengths.side, width, _HEIGHT, label, bars)


def highest_share(lengths: Sequence[Lengths]) -> float:
    """The largest share of any bin, so that all histograms have one scale."""
    return max((max(each.rows) / sum(each.rows) for each in lengths if sum(each.rows)), default=0.0)


def quantile(lengths: Lengths, share: float) -> int:
    """Where the bin begins in which the row at this share of all stands, from the shortest on."""
    wanted, reached = share * sum(lengths.rows), 0
    for begin, rows in zip(lengths.begins, lengths.rows, strict=True):
        reached += rows
        if reached >= wanted and rows:
            return begin
    return lengths.begins[-1] if lengths.begins else 0


def median_bound(lengths: Lengths) -> int:
    """The upper bound of the bin of the median; bins are twice as wide as those before."""
    return max(1, 2 * quantile(lengths, 0.5))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
