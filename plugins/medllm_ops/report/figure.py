"""What all plots of the reports share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def to_json(figure: Any, height: int) -> str:
    """The figure for ``draw.js``: no frame, no colours of its own; ``height`` in CSS pixels."""
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 8, "r": 20, "t": 8, "b": 8},
        font={"family": "inherit", "size": 13},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "xanchor": "left", "traceorder": "normal"},
    )
    figure.update_xaxes(title_font_size=13, automargin=True, fixedrange=True, showline=False, zeroline=False)
    figure.update_yaxes(title_font_size=13, automargin=True, fixedrange=True, showline=False, zeroline=False)
    return str(figure.to_json())


def stacked_shares(
    names: Sequence[str],
    totals: Sequence[int],
    fates: Iterable[tuple[str, str, Sequence[int]]],
    title: str,
    height: int,
) -> str:
    """A bar for each name, in per cent of its total; ``fates`` are the title, colour and counts of its pieces."""
    from plotly import graph_objects

    figure = graph_objects.Figure()
    for fate, colour, counts in fates:
        if not any(counts):
            continue
        figure.add_bar(
            y=names,
            x=[100 * count / max(1, total) for count, total in zip(counts, totals, strict=True)],
            customdata=counts,
            name=fate,
            orientation="h",
            marker={"color": colour, "line": {"width": 0}},
            hovertemplate="%{customdata:,} rows (%{x:.1f} %)",
        )
    figure.update_layout(barmode="stack", bargap=0.35, hovermode="y unified")
    figure.update_xaxes(title=title, ticksuffix=" %", range=[0, 101], dtick=20)
    figure.update_yaxes(autorange="reversed", ticksuffix="  ")
    return to_json(figure, height)
