"""Steps 6 to 9 as pictures: what was measured or timed. Every label comes from `words`, in some language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from fpgm_core.evaluation import Interval
from fpgm_core.figures.bars import error_bars
from fpgm_core.figures.colours import KEPT, OUTLINE, PRUNED, PRUNED_SYMBOL, QUIET, SERIES
from fpgm_core.figures.lesson.marks import SHAPES, Words, dots, lesson_layout, line


def stand_in_figure(
    sums: np.ndarray,
    values: np.ndarray,
    *,
    chosen: int,
    nearest: int,
    smallest: int,
    words: Words,
    made_good: bool = False,
) -> go.Figure:
    """A layer's filters: g against refit cost, or against the share `made_good`, (N,) each.

    The filter nearest the median, the smallest and the chosen one are marked.
    """
    traces = [
        dots(sums, values, name=words("figure.filters"), customdata=np.arange(len(sums)),
             hovertemplate="%{customdata}: g %{x:.3f}, %{y:.3g}<extra></extra>", marker={"size": 9, "color": KEPT})
    ]  # fmt: skip
    for index, name, colour, symbol in (
        (nearest, "nearest", PRUNED, "circle-open"),
        (smallest, "smallest", QUIET, "diamond-open"),
        (chosen, "chosen", OUTLINE, "square-open"),
    ):
        traces.append(dots([sums[index]], [values[index]], name=words(f"figure.{name}"), hoverinfo="skip",
                           marker={"size": 22, "color": colour, "symbol": symbol, "line": {"width": 3}}))  # fmt: skip
    drawn = lesson_layout(words("figure.g"), words("figure.made_good" if made_good else "figure.refit_cost"))
    drawn["yaxis"] |= {"tickformat": ".2~%"}
    if not made_good and (values > 0).all():
        drawn["yaxis"] |= {"type": "log", "dtick": "D2"}
    return go.Figure(traces, drawn)


def bars_figure(bars: Mapping[str, float], *, axis: str, number_format: str) -> go.Figure:
    """A few values by their labels, each written on its bar in a d3 format."""
    trace = go.Bar(
        x=list(bars),
        y=list(bars.values()),
        marker={"color": SERIES[: len(bars)]},
        showlegend=False,
        texttemplate=f"%{{y:{number_format}}}",
        textposition="outside",
        cliponaxis=False,
        hoverinfo="skip",
    )
    drawn = lesson_layout("", axis)
    drawn["yaxis"] |= {"rangemode": "tozero", "tickformat": f"{number_format[:-1]}~{number_format[-1]}"}
    return go.Figure([trace], drawn | {"margin": {"l": 10, "r": 10, "t": 30, "b": 10}})


def contest_figure(
    rungs: Sequence[str],
    *,
    criteria: Mapping[str, Sequence[Interval]],
    control: Sequence[Sequence[float]],
    dense: float | None,
    words: Words,
) -> go.Figure:
    """Accuracy on every rung: of each criterion with its interval, and of every random draw (a list for each rung)."""
    places = np.arange(len(rungs), dtype=float)
    traces = [_control_dots(places, control, words=words)]
    for number, (name, intervals) in enumerate(criteria.items()):
        traces.append(dots(
            places - 0.1 + 0.12 * number, [100 * interval.value for interval in intervals], name=name,
            hovertemplate=f"{name}: %{{y:.2f}}%<extra></extra>", error_y=error_bars(intervals, 100),
            marker={"size": 10, "color": SERIES[number % len(SERIES)], "symbol": SHAPES[number % len(SHAPES)]},
        ))  # fmt: skip
    lines = []
    if dense is not None:
        lines.append({"type": "line", "y0": dense * 100, "y1": dense * 100, "x0": 0, "x1": 1, "xref": "x domain",
                      "line": {"dash": "dot", "color": QUIET},
                      "label": {"text": words("figure.dense"), "font": {"size": 11}}})  # fmt: skip
    drawn = lesson_layout("", words("figure.accuracy"), shapes=lines)
    drawn["yaxis"] |= {"range": [0, 100]}
    drawn["xaxis"] |= {"tickvals": places, "ticktext": list(rungs), "range": [-0.5, len(rungs) - 0.5]}
    return go.Figure(traces, drawn)


def _control_dots(places: np.ndarray, control: Sequence[Sequence[float]], *, words: Words) -> go.Scatter:
    """Every random draw's accuracy, left of its rung's place, three columns wide so that few overlap."""
    draws = [(place - 0.32 + 0.04 * (seed % 3), 100 * accuracy)
             for place, accuracies in zip(places, control, strict=True)
             for seed, accuracy in enumerate(accuracies)]  # fmt: skip
    return dots([x for x, _ in draws], [y for _, y in draws], name=words("figure.random"),
                marker={"size": 6, "color": QUIET, "opacity": 0.8},
                hovertemplate="%{y:.2f}%<extra></extra>")  # fmt: skip


def changes_figure(changes: Mapping[str, Interval], words: Words) -> go.Figure:
    """Paired changes by name, in percentage points with 95% intervals; those whose interval holds 0 are hollow."""
    names, intervals = list(changes)[::-1], list(changes.values())[::-1]  # plotly draws the last on top
    certain = [interval.excludes_zero for interval in intervals]
    trace = dots([100 * interval.value for interval in intervals], names, name="", showlegend=False,
                 error_x=error_bars(intervals, 100, color=QUIET), hovertemplate="%{y}: %{x:+.2f}<extra></extra>",
                 marker={"size": 11, "color": [PRUNED if sure else QUIET for sure in certain],
                         "symbol": ["circle" if sure else "circle-open" for sure in certain]})  # fmt: skip
    shapes = [{"type": "line", "x0": 0, "x1": 0, "y0": 0, "y1": 1, "yref": "y domain", "line": {"color": QUIET}}]
    drawn = lesson_layout(words("figure.points"), "", shapes=shapes)
    return go.Figure([trace], drawn | {"height": 120 + 34 * len(changes)})


def flops_figure(
    rates: Sequence[float],
    *,
    counted: Sequence[float],
    closed_form: Sequence[float],
    printed: Mapping[float, float],
    words: Words,
) -> go.Figure:
    """The share of FLOPs cut by rate: counted, by the paper's closed form, and as printed (percent by rate).

    What is empty is left out; dashed, beside them, where a share of the filters would be the same share of the FLOPs.
    """
    percent = [rate * 100 for rate in rates]
    traces = [line(percent, percent, name=words("figure.identity"), colour=QUIET, opacity=0.6)]
    traces[0].line.dash = "dash"
    if counted:
        traces += [
            line(percent, [share * 100 for share in closed_form], name=words("figure.closed_form"), colour=QUIET),
            line(percent, [share * 100 for share in counted], name=words("figure.counted"), colour=KEPT),
            dots([rate * 100 for rate in printed], list(printed.values()), name=words("figure.printed"),
                 marker={"size": 11, "color": PRUNED, "symbol": PRUNED_SYMBOL}),
        ]  # fmt: skip
    drawn = lesson_layout(words("figure.rate"), words("figure.cut"), showlegend=True)
    drawn["yaxis"] |= {"range": [0, 100]}
    return go.Figure(traces, drawn)
