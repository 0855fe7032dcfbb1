"""Pictures of a sensitivity sweep: what every unit loses when it alone is pruned, rate by rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from fpgm_core.evaluation import Interval, Point, Sweep
from fpgm_core.figures.bars import error_bars
from fpgm_core.figures.colours import MEDIAN, OUTLINE, PRUNED, QUIET
from fpgm_core.figures.labels import LABELS

_ROW = 26  # pixels of a unit
_TICKS = np.array([0, 0.5, 2, 5, 10, 20, 40, 80])  # points lost, on the root's scale


def change_text(point: Point) -> str:
    """A point's change in points of accuracy; in brackets where its interval does not exclude zero."""
    change = point.change
    text = f"{change.value * 100:+.1f}".replace("-", "−")
    return text if change.excludes_zero else f"({text})"


def sweep_figure(
    sweep: Sweep,
    units: Sequence[str],
    *,
    rates: Sequence[float],
    plan: Mapping[str, float],
    chosen: str | None = None,
    labels: Mapping[str, str] = LABELS,
) -> go.Figure:
    """Every unit at every rate: points of accuracy lost as colours, on the square root's scale, and as numbers.

    Rows are `units` in their order, the name of the `chosen` one in bold; what is not measured yet is left out.
    Triangles mark the rates of `plan`; `customdata` of a cell is its unit's place in `units` and its rate.
    """
    measured = {(point.unit, point.rate): point for point in sweep.points}
    cells = [
        (row, rate, measured[unit, rate])
        for row, unit in enumerate(units)
        for rate in rates
        if (unit, rate) in measured
    ]
    percent = [round(rate * 100) for rate in rates]
    traces = [
        _losses(cells, rates, rows=len(units), title=labels["points_lost"]),
        _clickable(units, cells, labels),
        _plan_marks(units, rates, plan=plan, name=labels["plan_bars"]),
    ]
    return go.Figure(traces, _map_layout(units, percent, chosen=chosen, title=labels["share_pruned"]))


def _losses(cells: Sequence[tuple[int, float, Point]], rates: Sequence[float], *, rows: int, title: str) -> go.Heatmap:
    """The colours and numbers of the measured cells: points lost, on the square root's scale."""
    loss = np.full((rows, len(rates)), np.nan)
    text = np.full(loss.shape, "", dtype=object)
    for row, rate, point in cells:
        loss[row, rates.index(rate)] = max(0.0, -point.change.value * 100)
        text[row, rates.index(rate)] = change_text(point)
    most = max(1.0, np.nanmax(loss, initial=0.0))
    ticks = _TICKS[most >= _TICKS]
    return go.Heatmap(
        x=[round(rate * 100) for rate in rates],
        y=list(range(rows)),
        z=np.sqrt(loss),
        zmin=0,
        zmax=float(np.sqrt(most)),
        colorscale="Cividis",
        text=text,
        texttemplate="%{text}",
        xgap=1,
        ygap=1,
        hoverinfo="skip",
        colorbar={
            "title": {"text": title},
            "tickvals": np.sqrt(ticks),
            "ticktext": [f"{tick:g}" for tick in ticks],
            "thickness": 12,
        },
    )


def _clickable(
    units: Sequence[str], cells: Sequence[tuple[int, float, Point]], labels: Mapping[str, str]
) -> go.Scatter:
    """Invisible squares over the cells: the cells of a heat map cannot be selected."""
    return go.Scatter(
        x=[round(rate * 100) for _, rate, _ in cells],
        y=[row for row, _, _ in cells],
        mode="markers",
        marker={"symbol": "square", "size": _ROW - 4, "opacity": 0},
        selected={"marker": {"opacity": 0}},
        unselected={"marker": {"opacity": 0}},
        customdata=[[row, rate] for row, rate, _ in cells],
        text=[_hover(units[row], point, labels) for row, _, point in cells],
        hovertemplate="%{text}<extra></extra>",
        showlegend=False,
    )


def _hover(unit: str, point: Point, labels: Mapping[str, str]) -> str:
    return labels["unit_loses"].format(unit=unit, rate=point.rate, change=point.change.told(100))


def _plan_marks(units: Sequence[str], rates: Sequence[float], *, plan: Mapping[str, float], name: str) -> go.Scatter:
    """The plan's rates, those within the swept ones."""
    rows = [(row, plan[unit] * 100) for row, unit in enumerate(units) if rates[0] <= plan.get(unit, 0) <= rates[-1]]
    return go.Scatter(
        x=[rate for _, rate in rows],
        y=[row + 0.36 for row, _ in rows],  # below the numbers
        mode="markers",
        name=name,
        marker={"symbol": "triangle-up", "size": 10, "color": PRUNED, "line": {"color": "white", "width": 1}},
        hoverinfo="skip",
    )


def _map_layout(units: Sequence[str], percent: Sequence[int], *, chosen: str | None, title: str) -> dict[str, Any]:
    return {
        "height": 110 + _ROW * max(4, len(units)),
        "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
        "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
        "showlegend": True,
        "clickmode": "event+select",
        "hovermode": "closest",
        "dragmode": False,
        "xaxis": {
            "title": title,
            "tickvals": list(percent),
            "range": _edges(percent),
            "showgrid": False,
        },
        "yaxis": {
            "tickvals": list(range(len(units))),
            "ticktext": [f"<b>{unit}</b>" if unit == chosen else unit for unit in units],
            "range": [len(units) - 0.5, -0.5],
            "showgrid": False,
            "zeroline": False,
        },
    }


def _edges(percent: Sequence[int]) -> list[float]:
    """Where the cells begin and end, so that those to come have their places before they are measured."""
    first, last = (percent[1] - percent[0], percent[-1] - percent[-2]) if len(percent) > 1 else (10, 10)
    return [percent[0] - first / 2, percent[-1] + last / 2]


def sensitivity_curves(
    sweep: Sweep, chosen: str, *, dense_macs: int, by_macs: bool = False, labels: Mapping[str, str] = LABELS
) -> go.Figure:
    """Change of accuracy in points against the rate, or against the share of the network's MACs that it cuts.

    One line a unit; the `chosen` one stands out, with its paired 95% intervals.
    """

    def line(unit: str, style: dict[str, Any]) -> go.Scatter:
        points = sweep.units[unit]
        x = [0.0, *(100 * ((1 - point.macs / dense_macs) if by_macs else point.rate) for point in points)]
        y = [0.0, *(point.change.value * 100 for point in points)]
        text = [labels["dense"], *(_hover(unit, point, labels) for point in points)]
        return go.Scatter(x=x, y=y, text=text, hovertemplate="%{text}<extra></extra>", **style)

    quiet = {"mode": "lines", "line": {"color": QUIET, "width": 1}, "opacity": 0.5, "showlegend": False}
    traces = [line(unit, quiet) for unit in sweep.units if unit != chosen]
    if chosen in sweep.units:
        changes = [Interval(0, 0, 0), *(point.change for point in sweep.units[chosen])]
        style = {"mode": "lines+markers", "name": chosen, "error_y": error_bars(changes, 100, thickness=1.5)}
        traces.append(line(chosen, {**style, "line": {"color": MEDIAN, "width": 3}, "marker": {"size": 8}}))
    zero = {"type": "line", "x0": 0, "x1": 1, "xref": "x domain", "y0": 0, "y1": 0}
    return go.Figure(
        traces,
        {
            "height": 380,
            "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
            "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
            "showlegend": True,
            "hovermode": "closest",
            "shapes": [zero | {"line": {"color": OUTLINE, "dash": "dot", "width": 1}}],
            "xaxis": {"title": labels["macs_cut" if by_macs else "share_pruned"]},
            "yaxis": {"title": labels["change"]},
        },
    )
