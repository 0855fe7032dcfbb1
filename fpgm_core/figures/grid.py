"""Criteria over a grid of goals: accuracy against the MACs cut, with the band of the random control."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from fpgm_core.evaluation import ContestGrid
from fpgm_core.figures.bars import error_bars
from fpgm_core.figures.colours import QUIET, SERIES
from fpgm_core.figures.labels import LABELS

_SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "star", "triangle-down", "pentagon", "hexagram")


def grid_figure(
    grid: ContestGrid, rung: str, titles: Mapping[str, str], *, labels: Mapping[str, str] = LABELS
) -> go.Figure:
    """Every criterion's accuracy on a rung with its 95% interval, a line each; `titles` by criterion, in their order.

    The band is from the worst to the best of the random draws at each goal, its line their mean.
    """
    traces = _band(grid, rung, labels)
    for number, (criterion, title) in enumerate(titles.items()):
        marks = grid.points(criterion, rung)
        if not marks:
            continue
        colour = SERIES[number % len(SERIES)]
        traces.append(
            go.Scatter(
                x=[100 * cut for cut, _ in marks],
                y=[100 * accuracy.value for _, accuracy in marks],
                error_y=error_bars([accuracy for _, accuracy in marks], 100, color=colour, thickness=1),
                mode="lines+markers",
                name=title,
                hovertemplate=f"{title}<br>−%{{x:.1f}}% MACs<br>%{{y:.2f}}%<extra></extra>",
                marker={"color": colour, "symbol": _SYMBOLS[number % len(_SYMBOLS)], "size": 8},
                line={"color": colour, "width": 1.5, "dash": "solid" if number < len(SERIES) else "dot"},
            )
        )
    layout: dict[str, Any] = {
        "height": 460,
        "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
        "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
        "showlegend": True,
        "hovermode": "closest",
        "xaxis": {"title": labels["macs_cut"]},
        "yaxis": {"title": labels["accuracy_on_choose"]},
    }
    if not traces:  # the places where points will stand
        layout["xaxis"]["range"] = layout["yaxis"]["range"] = [0, 100]
    return go.Figure(traces, layout)


def _band(grid: ContestGrid, rung: str, labels: Mapping[str, str]) -> list[go.Scatter]:
    draws = grid.control(rung)
    if not draws:
        return []
    cuts = [100 * cut for cut, _ in draws]
    low, mean, high = (100 * np.array([act(values) for _, values in draws]) for act in (np.min, np.mean, np.max))
    area = go.Scatter(
        x=[*cuts, *cuts[::-1]], y=[*high, *low[::-1]], fill="toself", mode="none", hoverinfo="skip",
        fillcolor="rgba(138, 143, 152, 0.28)", name=labels["random_band"], showlegend=False,
    )  # fmt: skip
    middle = go.Scatter(
        x=cuts, y=mean, mode="lines+markers", name=labels["random_band"], line={"color": QUIET, "dash": "dash"},
        marker={"size": 5, "color": QUIET}, hovertemplate="−%{x:.1f}% MACs<br>%{y:.2f}%<extra></extra>",
    )  # fmt: skip
    return [area, middle]
