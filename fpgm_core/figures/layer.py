"""One layer's pictures: norm against g, the map, the radial plot, the norms."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from fpgm_core.criteria import NormDiagnostics, Projection
from fpgm_core.figures.colours import KEPT, KEPT_SYMBOL, MEDIAN, MEDIAN_SYMBOL, OUTLINE, PRUNED, PRUNED_SYMBOL, QUIET

HEIGHT = 440
_TRUE_SHAPE = {"scaleanchor": "x", "scaleratio": 1}


@dataclass(frozen=True, eq=False)
class FilterStates:
    """What the current plan does with a layer's N filters: `keep` bool (N,), and the locked ones' indices."""

    keep: np.ndarray
    locked: Collection[int] = ()


def layout(x: str, y: str, **more: Any) -> dict[str, Any]:
    """The layout that a layer's pictures share. Figures are built in one go: plotly validates every change."""
    return {
        "height": HEIGHT,
        "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "hovermode": "closest",
        "dragmode": "pan",
        "clickmode": "event+select",
        "xaxis": {"title": x},
        "yaxis": {"title": y},
    } | more


def filter_traces(
    x: np.ndarray, y: np.ndarray, *, states: FilterStates, hover: str, extra: np.ndarray | None = None
) -> list[go.Scatter]:
    """Kept and pruned filters as two traces, locked ones outlined; `customdata` is the filter's index and `extra`."""
    traces = []
    for name, members, colour, symbol in (
        ("kept", states.keep, KEPT, KEPT_SYMBOL),
        ("pruned", ~states.keep, PRUNED, PRUNED_SYMBOL),
    ):
        index = np.flatnonzero(members)
        locked = np.isin(index, list(states.locked))
        traces.append(
            go.Scatter(
                x=x[index].astype(np.float32),
                y=y[index].astype(np.float32),
                mode="markers",
                name=f"{name} ({len(index)})",
                customdata=np.stack([index, index if extra is None else extra[index]], axis=1),
                hovertemplate=f"filter %{{customdata[0]:.0f}}, {name}<br>{hover}<extra></extra>",
                marker={
                    "color": colour,
                    "symbol": symbol,
                    "size": 10,
                    "opacity": 0.9,
                    "line": {"color": OUTLINE, "width": np.where(locked, 3, 0)},
                },
                selected={"marker": {"size": 16, "opacity": 1}},
                unselected={"marker": {"opacity": 0.75}},
            )
        )
    return traces


def cut_line(scores: np.ndarray, count: int) -> float | None:
    """The value between the `count` lowest scores and the rest: where that criterion alone would cut."""
    if count <= 0 or count >= len(scores):
        return None
    ordered = np.sort(scores)
    return float((ordered[count - 1] + ordered[count]) / 2)


def scores_figure(norms: np.ndarray, sums: np.ndarray, *, states: FilterStates, count: int) -> go.Figure:
    """L2 norm against g, both (N,) and exact: the norm's cut of `count` filters is vertical, FPGM's horizontal."""
    shapes, notes = [], []
    for value, axis, text, colour in (
        (cut_line(norms, count), "x", "the norm prunes to the left", QUIET),
        (cut_line(sums, count), "y", "FPGM prunes below", PRUNED),
    ):
        if value is not None:
            along, across = ("x", "y") if axis == "x" else ("y", "x")
            shapes.append(
                {"type": "line", f"{along}0": value, f"{along}1": value, f"{across}0": 0, f"{across}1": 1,
                 f"{across}ref": f"{across} domain", "line": {"dash": "dash", "color": colour, "width": 1.5}}
            )  # fmt: skip
            notes.append(
                {"text": text, along: value, across: 1, f"{across}ref": f"{across} domain", "showarrow": False,
                 "xanchor": "right", "yanchor": "top", "font": {"size": 11}}
            )  # fmt: skip
    return go.Figure(
        filter_traces(norms, sums, states=states, hover="L2 norm %{x:.4f}<br>g %{y:.4f}"),
        layout("L2 norm of the filter", "g: sum of distances to the other filters", shapes=shapes, annotations=notes),
    )


def map_figure(projection: Projection, states: FilterStates) -> go.Figure:
    """A projection of the filters with their geometric median; UMAP's is tied to the filters truly nearest to it."""
    x, y = projection.points.T
    nearest = () if projection.exact_median else np.argsort(projection.distances, kind="stable")[:3]
    ties = [
        go.Scatter(
            x=[projection.median[0], x[index]], y=[projection.median[1], y[index]], mode="lines",
            line={"color": MEDIAN, "width": 1, "dash": "dot"}, hoverinfo="skip", showlegend=False,
        )
        for index in nearest
    ]  # fmt: skip
    hover = "true distance to the median %{customdata[1]:.4f}"
    drawn = layout(*{"pca": ("first principal component", "second"), "umap": ("UMAP 1", "UMAP 2")}[projection.method])
    if projection.method == "pca":
        drawn["yaxis"] |= _TRUE_SHAPE
    filters = filter_traces(x, y, states=states, hover=hover, extra=projection.distances)
    return go.Figure([*ties, *filters, _median(projection)], drawn)


def _median(projection: Projection) -> go.Scatter:
    kind = "geometric median" if projection.exact_median else "geometric median (approximate position)"
    return go.Scatter(
        x=[projection.median[0]],
        y=[projection.median[1]],
        mode="markers",
        name=kind,
        hovertemplate=f"{kind}<extra></extra>",
        marker={"symbol": MEDIAN_SYMBOL, "size": 18, "color": MEDIAN, "line": {"color": "white", "width": 1}},
    )


def radial_figure(projection: Projection, states: FilterStates) -> go.Figure:
    """The median in the middle, every filter at its true distance; the angle is PCA's and carries no distance."""
    x, y = projection.points.T
    angle = np.linspace(0, 2 * np.pi, 121)
    rings = [
        go.Scatter(
            x=radius * np.cos(angle), y=radius * np.sin(angle), mode="lines", hoverinfo="skip", showlegend=False,
            line={"color": QUIET, "width": 0.7, "dash": "dot"},
        )
        for radius in np.quantile(projection.distances, (0.25, 0.5, 0.75, 1.0))
    ]  # fmt: skip
    hover = "distance to the median %{customdata[1]:.4f}"
    filters = filter_traces(x, y, states=states, hover=hover, extra=projection.distances)
    drawn = layout("distance to the geometric median, true in every direction", "")
    drawn["yaxis"] |= _TRUE_SHAPE
    return go.Figure([*rings, *filters, _median(projection)], drawn)


def norms_figure(
    norms: np.ndarray, states: FilterStates, *, layer: str, diagnostics: Mapping[str, NormDiagnostics]
) -> go.Figure:
    """Left the layer's norms (N,), sorted; in the middle their histogram; right every layer's spread and floor."""
    figure = make_subplots(
        cols=3, column_widths=[0.4, 0.22, 0.38], horizontal_spacing=0.09,
        subplot_titles=("norms, smallest first", "how they spread", "the two requirements, every layer"),
    )  # fmt: skip
    rank = np.empty(len(norms))
    rank[np.argsort(norms, kind="stable")] = np.arange(1, len(norms) + 1)
    for trace in filter_traces(rank, norms, states=states, hover="L2 norm %{y:.4f}"):
        figure.add_trace(trace, 1, 1)
    figure.add_hline(float(norms.mean()), line={"color": QUIET, "dash": "dot"}, row=1, col=1,
                     annotation_text="mean", annotation_font_size=11)  # fmt: skip
    figure.add_trace(
        go.Histogram(y=norms, nbinsy=12, marker={"color": QUIET}, showlegend=False,
                     hovertemplate="%{x} filters of norm %{y}<extra></extra>"), 1, 2,
    )  # fmt: skip
    figure.add_trace(_requirements(layer, diagnostics), 1, 3)
    figure.update_layout(layout("", ""))
    figure.update_layout(margin={"t": 60}, legend={"y": -0.2})
    figure.update_yaxes(title="L2 norm", rangemode="tozero", row=1, col=1)
    figure.update_xaxes(title="filters", row=1, col=2)
    figure.update_yaxes(rangemode="tozero", row=1, col=2)
    figure.update_xaxes(title="floor: min / mean (should be near 0)", range=[-0.02, 1.02], row=1, col=3)
    figure.update_yaxes(title="spread: std / mean (should be large)", rangemode="tozero", row=1, col=3)
    return figure


def _requirements(layer: str, diagnostics: Mapping[str, NormDiagnostics]) -> go.Scatter:
    """Floor and spread of every layer; `layer` stands out."""
    return go.Scatter(
        x=[norms.floor for norms in diagnostics.values()],
        y=[norms.spread for norms in diagnostics.values()],
        text=list(diagnostics),
        mode="markers",
        showlegend=False,
        hovertemplate="%{text}<br>min / mean %{x:.2f}<br>std / mean %{y:.2f}<extra></extra>",
        marker={
            "color": [MEDIAN if name == layer else QUIET for name in diagnostics],
            "size": [14 if name == layer else 8 for name in diagnostics],
            "symbol": ["diamond" if name == layer else "circle" for name in diagnostics],
        },
    )
