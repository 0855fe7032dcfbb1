"""The front: accuracy against the MACs cut of what several ways to allocate come to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import cycle

import numpy as np
import plotly.graph_objects as go

from fpgm_core.figures.bars import error_bars
from fpgm_core.figures.colours import KEPT, MEDIAN, OUTLINE, PRUNED, QUIET
from fpgm_core.figures.labels import LABELS
from fpgm_core.figures.trace import TracePoint

_SERIES = ((KEPT, "circle"), (PRUNED, "diamond"), ("#009E73", "square"), (OUTLINE, "triangle-up"), ("#56B4E9", "cross"))
_QUIET = ((QUIET, "circle-open"), (QUIET, "x-thin-open"))


def front_figure(
    series: Mapping[str, Sequence[TracePoint]],
    dense: TracePoint,
    *,
    lone: Collection[str] = (),
    current: int | None = None,
    labels: Mapping[str, str] = LABELS,
) -> go.Figure:
    """Accuracy with 95% intervals against the share of the dense MACs cut, a line for each of `series`, by title.

    Those whose title is in `lone` are points by themselves, without a line: random draws, say. A mark's `customdata`
    is its number, counted through all series in order; that of number `current` is ringed.
    """
    traces, begin = [_dense(dense)], 0
    styles, quiet = cycle(_SERIES), cycle(_QUIET)
    for title, points in series.items():
        by_itself, numbers = title in lone, np.arange(begin, begin + len(points))
        colour, symbol = next(quiet if by_itself else styles)
        traces.append(_series(title, points, dense.macs, numbers, colour=colour, symbol=symbol, lone=by_itself))
        if current is not None and begin <= current < begin + len(points):
            traces.append(_ring(points[current - begin], dense.macs))
        begin += len(points)
    layout = {
        "height": 380,
        "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
        "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
        "showlegend": True,
        "clickmode": "event+select",
        "hovermode": "closest",
        "xaxis": {"title": labels["macs_cut"], "range": [-3, 93], "zeroline": False},
        "yaxis": {"title": labels["accuracy_on_choose"]},
    }
    return go.Figure(traces, layout)


def _cut(point: TracePoint, dense_macs: int) -> float:
    return 100 * (1 - point.macs / dense_macs)


def _series(
    title: str,
    points: Sequence[TracePoint],
    dense_macs: int,
    numbers: np.ndarray,
    *,
    colour: str,
    symbol: str,
    lone: bool,
) -> go.Scatter:
    return go.Scatter(
        x=[_cut(point, dense_macs) for point in points],
        y=[100 * point.accuracy.value for point in points],
        error_y=error_bars([point.accuracy for point in points], 100, color=colour, thickness=1),
        mode="markers" if lone else "lines+markers",
        name=title,
        text=[point.label for point in points],
        customdata=numbers,
        hovertemplate=f"{title}<br>%{{text}}<br>−%{{x:.1f}}% MACs<br>%{{y:.2f}}%<extra></extra>",
        marker={"color": colour, "symbol": symbol, "size": 7 if lone else 9},
        line={"color": colour, "width": 1.5},
    )


def _dense(dense: TracePoint) -> go.Scatter:
    return go.Scatter(
        x=[0], y=[100 * dense.accuracy.value], mode="markers", name=dense.label,
        marker={"color": QUIET, "symbol": "square", "size": 10},
        hovertemplate=f"{dense.label}<br>" "%{y:.2f}%<extra></extra>",
    )  # fmt: skip


def _ring(point: TracePoint, dense_macs: int) -> go.Scatter:
    return go.Scatter(
        x=[_cut(point, dense_macs)], y=[100 * point.accuracy.value], mode="markers", hoverinfo="skip", showlegend=False,
        marker={"color": MEDIAN, "symbol": "circle-open", "size": 18, "line": {"width": 3}},
    )  # fmt: skip
