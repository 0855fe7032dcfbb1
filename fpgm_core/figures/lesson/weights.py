"""Steps 1 to 5 as pictures: toys, and what weights alone show. Every label comes from `words`, in some language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from fpgm_core.figures.colours import KEPT, MEDIAN, OUTLINE, PRUNED, QUIET, SERIES
from fpgm_core.figures.lesson.marks import (
    SHAPES,
    STAR,
    TRANSLUCENT,
    Words,
    circle,
    dots,
    lesson_layout,
    line,
    vertical,
)


def plane_figure(
    points: np.ndarray,
    *,
    median: tuple[float, float],
    by_norm: Sequence[int],
    by_distance: Sequence[int],
    cut: float | None,
    words: Words,
) -> go.Figure:
    """Filters as points of the plane (N, 2): the median, and which ones each criterion drops.

    `cut` is the norm below which the norm criterion prunes, None to leave it out.
    """
    traces = [line(*circle(radius), name="", colour=QUIET, hoverinfo="skip", showlegend=False, opacity=0.35)
             for radius in (1, 2, 3, 4)]  # fmt: skip
    if cut is not None:
        traces.append(line(*circle(cut), name=words("figure.norm_cut"), colour=QUIET))
        traces[-1].line.dash = "dash"
    traces.append(
        go.Scatter(
            x=points[:, 0], y=points[:, 1], mode="markers+text", name=words("figure.filters"),
            text=[str(n) for n in range(len(points))], textfont={"color": "white", "size": 11},
            marker={"size": 20, "color": KEPT}, hovertemplate="%{text}: (%{x:.2f}, %{y:.2f})<extra></extra>",
        )
    )  # fmt: skip
    traces.append(_dropped(points[[*by_norm]], "norm_drops", colour=QUIET, symbol="diamond-open", words=words))
    traces.append(_dropped(points[[*by_distance]], "fpgm_drops", colour=PRUNED, symbol="square-open", words=words))
    traces.append(dots([median[0]], [median[1]], name=words("figure.median"), marker=STAR, hoverinfo="skip"))
    drawn = lesson_layout("", "")
    drawn["yaxis"] |= {"scaleanchor": "x", "scaleratio": 1, "range": [-4.2, 4.2]}
    return go.Figure(traces, drawn | {"height": 460})


def _dropped(points: np.ndarray, name: str, *, colour: str, symbol: str, words: Words) -> go.Scatter:
    """Open marks around the filters (K, 2) that a criterion drops."""
    return dots(points[:, 0], points[:, 1], name=words(f"figure.{name}"), hoverinfo="skip",
                marker={"size": 32, "color": colour, "symbol": symbol, "line": {"width": 3}})  # fmt: skip


def bells_figure(
    ideal: tuple[np.ndarray, np.ndarray],
    toy: tuple[np.ndarray, np.ndarray],
    *,
    cuts: tuple[float, float],
    words: Words,
) -> go.Figure:
    """The paper's Fig. 2: how norms should spread, and how a toy layer's do; each with its cut at the same rate.

    Curves are (norms, density), (M,) each; `cuts` are the ideal's and the toy's.
    """
    traces = []
    for (norms, density), cut, name, colour, dash in (
        (ideal, cuts[0], "ideal", QUIET, "dash"),
        (toy, cuts[1], "toy_layer", KEPT, "solid"),
    ):
        traces.append(line(norms, density, name=words(f"figure.{name}"), colour=colour))
        traces[-1].line.dash = dash
        below = norms <= cut
        traces.append(go.Scatter(x=norms[below], y=density[below], fill="tozeroy", mode="none", fillcolor=TRANSLUCENT,
                                 showlegend=name == "toy_layer", name=words("figure.pruned"),
                                 hoverinfo="skip"))  # fmt: skip
    shapes = [vertical(cuts[0], QUIET), vertical(cuts[1], PRUNED, text=words("figure.threshold"))]
    drawn = lesson_layout(words("figure.norm"), words("figure.density"), shapes=shapes)
    drawn["xaxis"] |= {"rangemode": "tozero", "range": [0, 1.05 * max(toy[0][-1], ideal[0][-1])]}
    drawn["yaxis"] |= {"range": [0, 1.2], "showticklabels": False}
    return go.Figure(traces, drawn)


def requirements_figure(
    requirements: Mapping[str, tuple[float, float]],
    *,
    toy: tuple[float, float],
    ideal: tuple[float, float],
    words: Words,
) -> go.Figure:
    """The two requirements, (floor, spread), of every layer by name, of the toy layer and of the ideal."""
    floors, spreads = zip(*requirements.values(), strict=True)
    traces = [
        dots(floors, spreads, name=words("figure.layers"), text=list(requirements), marker={"size": 9, "color": KEPT},
             hovertemplate="%{text}<br>min / mean %{x:.2f}<br>std / mean %{y:.2f}<extra></extra>"),
        dots([toy[0]], [toy[1]], name=words("figure.toy_layer"),
             marker={"size": 14, "color": PRUNED, "symbol": "diamond"}),
        dots([ideal[0]], [ideal[1]], name=words("figure.ideal"), marker={"size": 15, "color": QUIET, "symbol": "star"}),
    ]  # fmt: skip
    drawn = lesson_layout(words("figure.floor"), words("figure.spread"))
    drawn["xaxis"] |= {"range": [-0.03, 1.03]}
    drawn["yaxis"] |= {"rangemode": "tozero"}
    return go.Figure(traces, drawn)


def layer_norms_figure(norms: Mapping[str, np.ndarray], words: Words) -> go.Figure:
    """The paper's Fig. 3 on this network: every layer's norms, (N,) by name, divided by their mean, as boxes."""
    traces = [
        go.Box(y=values / values.mean(), name=name, marker={"color": KEPT, "size": 3}, line={"width": 1},
               showlegend=False)
        for name, values in norms.items()
    ]  # fmt: skip
    drawn = lesson_layout("", words("figure.relative_norm"))
    drawn["yaxis"] |= {"rangemode": "tozero"}
    drawn["xaxis"] |= {"tickangle": -60, "tickfont": {"size": 9}}
    return go.Figure(traces, drawn)


def median_figure(
    points: np.ndarray,
    *,
    grid: tuple[np.ndarray, np.ndarray, np.ndarray],
    path: np.ndarray,
    median: tuple[float, float],
    mean: tuple[float, float],
    words: Words,
) -> go.Figure:
    """f as a contour over the plane, the filters, Weiszfeld's path so far, the mean and the median.

    `grid` is (x, y, f), f of shape (len(y), len(x)).
    """
    x, y, f = grid
    traces = [
        go.Contour(x=x, y=y, z=f, colorscale="Viridis", showscale=False, contours={"coloring": "lines"}, ncontours=18,
                   hovertemplate="f %{z:.2f}<extra></extra>", name="f"),
        dots(points[:, 0], points[:, 1], name=words("figure.filters"), marker={"size": 11, "color": KEPT},
             hovertemplate="(%{x:.2f}, %{y:.2f})<extra></extra>"),
        go.Scatter(x=path[:, 0], y=path[:, 1], mode="lines+markers", name=words("figure.path"),
                   line={"color": OUTLINE, "width": 2}, marker={"size": 7, "color": OUTLINE},
                   text=[str(n) for n in range(len(path))],
                   hovertemplate="%{text}: (%{x:.3f}, %{y:.3f})<extra></extra>"),
        dots([mean[0]], [mean[1]], name=words("figure.mean"), marker={"size": 13, "color": QUIET, "symbol": "cross"}),
        dots([median[0]], [median[1]], name=words("figure.median"), marker=STAR),
    ]  # fmt: skip
    drawn = lesson_layout("", "")
    drawn["xaxis"] |= {"range": [float(x[0]), float(x[-1])], "constrain": "domain"}
    drawn["yaxis"] |= {"scaleanchor": "x", "scaleratio": 1, "range": [float(y[0]), float(y[-1])]}
    return go.Figure(traces, drawn)


def outlier_figure(
    points: np.ndarray, *, outlier: int, median: tuple[float, float], mean: tuple[float, float], words: Words
) -> go.Figure:
    """Filters of the plane (N, 2), one of them far away; mean and median lie where they were before it went there."""
    traces = [
        dots(points[:, 0], points[:, 1], name=words("figure.filters"), marker={"size": 11, "color": KEPT},
             hovertemplate="(%{x:.2f}, %{y:.2f})<extra></extra>"),
        dots(*points[[outlier]].T, name=words("figure.outlier"), hoverinfo="skip",
             marker={"size": 22, "color": PRUNED, "symbol": "circle-open", "line": {"width": 3}}),
        dots([mean[0]], [mean[1]], name=words("figure.mean_before"), hoverinfo="skip",
             marker={"size": 13, "color": QUIET, "symbol": "cross"}),
        dots([median[0]], [median[1]], name=words("figure.median_before"), marker=STAR, hoverinfo="skip"),
    ]  # fmt: skip
    drawn = lesson_layout("", "")
    drawn["yaxis"] |= {"scaleanchor": "x", "scaleratio": 1}
    return go.Figure(traces, drawn)


def terms_figure(distances: np.ndarray, chosen: int, *, words: Words, own: bool = True) -> go.Figure:
    """g of one filter, term by term: its distance to every filter (N,); its `own` zero is set apart."""
    others = np.flatnonzero(np.arange(len(distances)) != chosen)
    bars = go.Bar(x=others, y=distances[others], marker={"color": KEPT}, name=words("figure.terms"),
                  hovertemplate="%{x}: %{y:.4f}<extra></extra>")  # fmt: skip
    ring = dots([chosen], [distances[chosen]], name=words("figure.own_term"), cliponaxis=False,
               marker={"size": 15, "color": OUTLINE, "symbol": "circle-open", "line": {"width": 4}},
               hovertemplate="%{x}: %{y:.1f}<extra></extra>")  # fmt: skip
    drawn = lesson_layout(words("figure.filter_number"), words("figure.distance", chosen=chosen))
    drawn["yaxis"] |= {"rangemode": "tozero"}
    return go.Figure([bars, ring] if own else [bars], drawn)


def four_points_figure(
    points: np.ndarray, *, median: tuple[float, float], nearest: int, medoid: int, words: Words
) -> go.Figure:
    """The counterexample: the point nearest the median, and another that has the smallest sum."""
    labels = [f"{'&nbsp;' * 6}({x:g}, {y:g})" for x, y in points]
    traces = [
        go.Scatter(x=points[:, 0], y=points[:, 1], mode="markers+text", text=labels, textposition="middle right",
                   marker={"size": 13, "color": KEPT}, name=words("figure.filters"), hoverinfo="skip"),
        dots([points[nearest, 0]], [points[nearest, 1]], name=words("figure.nearest"), hoverinfo="skip",
             marker={"size": 27, "color": PRUNED, "symbol": "circle-open", "line": {"width": 3}}),
        dots([points[medoid, 0]], [points[medoid, 1]], name=words("figure.medoid"), hoverinfo="skip",
             marker={"size": 27, "color": OUTLINE, "symbol": "square-open", "line": {"width": 3}}),
        dots([median[0]], [median[1]], name=words("figure.median"), marker=STAR, hoverinfo="skip"),
    ]  # fmt: skip
    drawn = lesson_layout("", "")
    drawn["xaxis"] |= {"range": [-1.5, 4.5]}
    drawn["yaxis"] |= {"range": [-1, 9]}
    return go.Figure(traces, drawn)


def cloud_figure(norms: np.ndarray, sums: np.ndarray, *, words: Words) -> go.Figure:
    """A toy cloud's norms against its distance sums, (N,) each."""
    cloud = dots(norms, sums, name=words("figure.filters"), marker={"size": 8, "color": KEPT},
                 hovertemplate="%{x:.3f}, %{y:.2f}<extra></extra>")  # fmt: skip
    return go.Figure([cloud], lesson_layout(words("figure.norm"), words("figure.g")))


def dimensions_figure(
    dimensions: Sequence[int],
    curves: Mapping[float, Sequence[tuple[float, float, float]]],
    *,
    on_screen: tuple[int, float],
    words: Words,
) -> go.Figure:
    """Rank correlation against dimension: by centre, (mean, low, high) at each of `dimensions`.

    `on_screen` is the dimension and the rank correlation of the cloud that is shown beside.
    """
    traces = []
    for (centre, correlations), colour in zip(curves.items(), SERIES, strict=False):
        mean, low, high = np.array(correlations).T
        traces.append(line(dimensions, mean, name=words("figure.centre_at", centre=f"{centre:g}"), colour=colour))
        traces.append(go.Scatter(x=[*dimensions, *dimensions[::-1]], y=[*low, *high[::-1]], fill="toself", mode="none",
                                 fillcolor=colour, opacity=0.12, showlegend=False, hoverinfo="skip"))  # fmt: skip
    traces.append(
        dots(
            [on_screen[0]],
            [on_screen[1]],
            name=words("figure.on_screen"),
            marker={"size": 15, "color": MEDIAN, "symbol": "circle-open", "line": {"width": 3}},
        )
    )
    drawn = lesson_layout(words("figure.dimension"), words("figure.rank_correlation"))
    drawn["xaxis"] |= {"type": "log", "tickvals": list(dimensions), "ticktext": list(map(str, dimensions))}
    drawn["yaxis"] |= {"range": [-0.4, 1.05]}
    return go.Figure(traces, drawn)


def layers_figure(groups: Mapping[str, Sequence[tuple[str, int, float, float]]], words: Words) -> go.Figure:
    """Real layers: dimension against rank correlation, coloured by the distance of their centre from the origin.

    `groups` of layers by name, a shape each: (layer, dimension, centre, rank correlation).
    """
    traces = []
    for (name, rows), symbol in zip(groups.items(), SHAPES, strict=False):
        traces.append(
            dots(
                [row[1] for row in rows], [row[3] for row in rows], name=name, text=[row[0] for row in rows],
                customdata=[row[2] for row in rows],
                hovertemplate="%{text}<br>%{x} → ρ %{y:.3f}, %{customdata:.2f}<extra></extra>",
                marker={"size": 11, "symbol": symbol, "color": [row[2] for row in rows], "coloraxis": "coloraxis",
                        "line": {"width": 1, "color": QUIET}},
            )
        )  # fmt: skip
    drawn = lesson_layout(words("figure.dimension"), words("figure.rank_correlation"))
    drawn["xaxis"] |= {"type": "log", "dtick": "D2"}
    bar = {"title": {"text": words("figure.centre"), "side": "right"}, "thickness": 10}
    return go.Figure(traces, drawn | {"coloraxis": {"colorscale": "Cividis", "colorbar": bar, "cmin": 0}})
