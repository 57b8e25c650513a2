"""What all plots of the reports share."""

from __future__ import annotations

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
