"""The marks that the lesson's pictures share: dots, lines, the median's star, and the layout around them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import plotly.graph_objects as go

from fpgm_core.figures.colours import MEDIAN, MEDIAN_SYMBOL

Words = Callable[..., str]
HEIGHT = 380
STAR = {"symbol": MEDIAN_SYMBOL, "size": 17, "color": MEDIAN, "line": {"color": "white", "width": 1}}
TRANSLUCENT = "rgba(213, 94, 0, 0.35)"  # PRUNED, through which a second area still shows
SHAPES = ("circle", "diamond", "square", "triangle-up", "cross", "star")


def lesson_layout(x: str, y: str, **more: Any) -> dict[str, Any]:
    """The layout that the lesson's pictures share, with room for the axis labels: they are drawn outside the page too.

    Figures are built in one go: plotly validates every change.
    """
    return {
        "height": HEIGHT,
        "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "hovermode": "closest",
        "dragmode": "pan",
        "clickmode": "event",
        "xaxis": {"title": x, "automargin": True},
        "yaxis": {"title": y, "automargin": True},
    } | more


def dots(x: Any, y: Any, *, name: str, **more: Any) -> go.Scatter:
    """Markers; `more` is plotly's."""
    return go.Scatter(x=np.asarray(x), y=np.asarray(y), mode="markers", name=name, **more)


def line(x: Any, y: Any, *, name: str, colour: str, **more: Any) -> go.Scatter:
    """A line of one colour; `more` is plotly's."""
    return go.Scatter(x=np.asarray(x), y=np.asarray(y), mode="lines", name=name, line={"color": colour}, **more)


def circle(radius: float) -> tuple[np.ndarray, np.ndarray]:
    """The points of a circle around the origin: x and y, (121,) each."""
    angle = np.linspace(0, 2 * np.pi, 121)
    return radius * np.cos(angle), radius * np.sin(angle)


def vertical(value: float, colour: str, *, text: str = "") -> dict[str, Any]:
    """A dashed vertical line across the picture at `value` on the x axis, with its label."""
    return {"type": "line", "x0": value, "x1": value, "y0": 0, "y1": 1, "yref": "y domain",
            "line": {"dash": "dash", "color": colour, "width": 1.5},
            "label": {"text": text, "textposition": "end", "font": {"size": 11}, "textangle": 0}}  # fmt: skip
