"""Pictures of what is replaceable: each layer's agreement with measured refit cost, and the damage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from fpgm_core.evaluation import Interval, Replaceability
from fpgm_core.figures.bars import error_bars
from fpgm_core.figures.colours import KEPT, MEDIAN, QUIET

_ROW = 24  # pixels of a layer


def agreement_figure(layers: Sequence[Replaceability], chosen: str | None) -> go.Figure:
    """Each layer's rank correlation with refit cost, of g and of the norm, with 95% intervals; `chosen` stands out."""
    names = [layer.layer for layer in layers]
    traces = [
        _correlations(
            {layer.layer: layer.by_distance for layer in layers}, "g", colour=KEPT, symbol="circle", shift=-0.14
        ),
        _correlations(
            {layer.layer: layer.by_norm for layer in layers}, "L2 norm", colour=QUIET, symbol="diamond", shift=0.14
        ),
    ]
    shapes = [{"type": "line", "x0": 0, "x1": 0, "y0": 0, "y1": 1, "yref": "y domain", "line": {"color": QUIET}}]
    if chosen in names:
        row = names.index(chosen)
        band = {"x0": 0, "x1": 1, "xref": "x domain", "y0": row - 0.5, "y1": row + 0.5, "layer": "below"}
        shapes.append({"type": "rect", **band, "fillcolor": MEDIAN, "opacity": 0.15, "line": {"width": 0}})
    return go.Figure(
        traces,
        {
            "height": 90 + _ROW * max(4, len(names)),
            "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
            "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
            "clickmode": "event+select",
            "hovermode": "closest",
            "shapes": shapes,
            "xaxis": {"title": "rank correlation with measured refit cost", "range": [-1.02, 1.02], "zeroline": False},
            "yaxis": {"tickvals": list(range(len(names))), "ticktext": names, "range": [len(names) - 0.5, -0.5]},
        },
    )


def _correlations(
    intervals: Mapping[str, Interval | None], label: str, *, colour: str, symbol: str, shift: float
) -> go.Scatter:
    """The layers' intervals, a row each, `shift` below its middle; layers without one are left out."""
    known = [(row, name, rho) for row, (name, rho) in enumerate(intervals.items()) if rho is not None]
    return go.Scatter(
        x=[rho.value for _, _, rho in known],
        y=[row + shift for row, _, _ in known],
        error_x=error_bars([rho for _, _, rho in known], thickness=1.5),
        mode="markers",
        name=label,
        text=[f"{name}: {rho.told()}" for _, name, rho in known],
        customdata=[row for row, _, _ in known],
        hovertemplate=f"{label} and refit cost<br>%{{text}}<extra></extra>",
        marker={"color": colour, "symbol": symbol, "size": 9},
    )


def heat_strips(rates: Sequence[float], loss: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Each unit's predicted losses (R,) at ascending `rates` as a CSS gradient, bottom to top, on one scale for all.

    Colours follow the square root of the loss: small losses, those at low rates, are the ones to choose among.
    """
    most = max((float(row.max()) for row in loss.values() if len(row)), default=0.0) or 1.0
    stops = [0.0, *rates]

    def strip(row: np.ndarray) -> str:
        colours = sample_colorscale("Cividis", np.sqrt(np.clip([0.0, *row], 0, most) / most).tolist())
        pairs = (f"{colour} {100 * rate:.0f}%" for colour, rate in zip(colours, stops, strict=True))
        return f"linear-gradient(to top, {', '.join(pairs)})"

    return {unit: strip(row) for unit, row in loss.items()}
