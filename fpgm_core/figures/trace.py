"""The trace: accuracy against MACs of every plan tried in a session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from fpgm_core.evaluation import Interval
from fpgm_core.figures.bars import error_bars
from fpgm_core.figures.colours import KEPT, MEDIAN, QUIET
from fpgm_core.figures.labels import LABELS


@dataclass(frozen=True)
class TracePoint:
    """One measured plan: its label, MACs, and exact accuracy with interval (fractions)."""

    label: str
    macs: int
    accuracy: Interval


def trace_figure(
    points: Sequence[TracePoint], dense: TracePoint, *, current: int | None, labels: Mapping[str, str] = LABELS
) -> go.Figure:
    """Accuracy against MACs; `current` is the index of the plan on screen, drawn as a diamond."""
    value = np.array([point.accuracy.value for point in points]) * 100
    level = dense.accuracy.value * 100
    dense_marker = go.Scatter(
        x=[dense.macs / 1e6], y=[level], mode="markers", name=dense.label,
        marker={"color": QUIET, "symbol": "square", "size": 10},
        hovertemplate=f"{dense.label}<br>" "%{x:.2f} M MACs<br>%{y:.2f}%<extra></extra>",
    )  # fmt: skip
    tried = go.Scatter(
        x=[point.macs / 1e6 for point in points],
        y=value,
        error_y=error_bars([point.accuracy for point in points], 100, color=QUIET, thickness=1),
        mode="markers",
        name=labels["tried"],
        text=[point.label for point in points],
        customdata=np.arange(len(points)),
        hovertemplate="%{text}<br>%{x:.2f} M MACs<br>%{y:.2f}%<extra></extra>",
        marker={
            "color": [MEDIAN if i == current else KEPT for i in range(len(points))],
            "symbol": ["diamond" if i == current else "circle" for i in range(len(points))],
            "size": [14 if i == current else 9 for i in range(len(points))],
        },
    )
    line = {"type": "line", "x0": 0, "x1": 1, "xref": "x domain", "y0": level, "y1": level}
    layout = {
        "height": 300,
        "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
        "showlegend": False,
        "clickmode": "event+select",
        "shapes": [line | {"line": {"color": QUIET, "dash": "dot", "width": 1}}],
        "xaxis": {"title": labels["macs_of_one"], "rangemode": "tozero"},
        "yaxis": {"title": labels["accuracy_on_choose"]},
    }
    return go.Figure([dense_marker, tried], layout)
