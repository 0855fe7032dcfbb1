"""Plans side by side: what happened to every class, and which classes are taken for which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from fpgm_core.evaluation import ClassChange
from fpgm_core.figures.bars import error_bars
from fpgm_core.figures.colours import KEPT, OUTLINE, PRUNED, QUIET
from fpgm_core.figures.labels import LABELS

_COLOURS, _SYMBOLS = (PRUNED, KEPT, OUTLINE), ("circle", "diamond", "square")
_ROW = 26  # pixels of a class


def class_change_figure(
    changes: Mapping[str, Sequence[ClassChange]], *, most: int = 20, labels: Mapping[str, str] = LABELS
) -> go.Figure:
    """Every class's change of accuracy in points with its paired 95% interval, a mark for each plan, by its title.

    Filled where the class truly changed (McNemar, Holm over all classes). Of more than `most` classes, those are shown
    that changed most in any plan.
    """
    plans = {title: {one.name: one for one in found} for title, found in changes.items()}
    names = list(dict.fromkeys(name for found in plans.values() for name in found))
    if len(names) > most:
        size = {name: max(abs(found[name].change.value) for found in plans.values()) for name in names}
        names = sorted(names, key=lambda name: -size[name])[:most]
    traces = []
    for number, (title, found) in enumerate(plans.items()):
        shift, rows = 0.18 * (number - (len(plans) - 1) / 2), [found[name] for name in names]
        kind = ["" if one.changed else "-open" for one in rows]
        traces.append(
            go.Scatter(
                x=[100 * one.change.value for one in rows],
                y=np.arange(len(rows)) + shift,
                error_x=error_bars([one.change for one in rows], 100, thickness=1.5, color=_COLOURS[number % 3]),
                mode="markers",
                name=title,
                text=[f"{one.name}: {one.change.told(100)}, p {one.p:.3f}" for one in rows],
                hovertemplate="%{text}<extra></extra>",
                marker={"color": _COLOURS[number % 3], "symbol": [_SYMBOLS[number % 3] + k for k in kind], "size": 10},
            )
        )
    zero = {"type": "line", "x0": 0, "x1": 0, "y0": 0, "y1": 1, "yref": "y domain", "line": {"color": QUIET}}
    rows_axis = {"tickvals": list(range(len(names))), "ticktext": names, "range": [len(names) - 0.5, -0.5]}
    layout = {
        "height": 90 + _ROW * max(4, len(names)),
        "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
        "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
        "showlegend": len(plans) > 1,
        "hovermode": "closest",
        "shapes": [zero],
        "xaxis": {"title": labels["change"], "zeroline": False},
        "yaxis": rows_axis | {"zeroline": False, "automargin": True},
    }
    return go.Figure(traces, layout)


def confusion_figure(
    before: np.ndarray, after: np.ndarray, names: Sequence[str], *, labels: Mapping[str, str] = LABELS
) -> go.Figure:
    """How much oftener images of a class (rows) are named another (columns) than before: counts as numbers and colours.

    Tables int (classes, classes). The diagonal, right answers, counts in the opposite sense: more is better.
    """
    change = after - before
    most = max(1, int(np.abs(change).max(initial=0)))
    hover = [
        [f"{row} → {column}: {before[i, j]} → {after[i, j]}" for j, column in enumerate(names)]
        for i, row in enumerate(names)
    ]
    heat = go.Heatmap(
        x=list(range(len(names))), y=list(range(len(names))), z=change, zmin=-most, zmax=most, colorscale="RdBu",
        reversescale=True, showscale=False, xgap=1, ygap=1, text=change,
        texttemplate="%{text:+d}" if len(names) <= 20 else None, hovertext=hover,
        hovertemplate="%{hovertext}<extra></extra>",
    )  # fmt: skip
    ticks = {"tickvals": list(range(len(names))), "ticktext": list(names), "showgrid": False, "zeroline": False}
    layout = {
        "height": 90 + _ROW * max(4, min(len(names), 30)),
        "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
        "xaxis": ticks | {"title": labels["named"], "automargin": True},
        "yaxis": ticks | {"title": labels["truly"], "range": [len(names) - 0.5, -0.5], "automargin": True},
    }
    return go.Figure([heat], layout)
