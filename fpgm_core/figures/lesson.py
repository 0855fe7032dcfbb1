"""The lesson's pictures. Every word on them is handed in: `words` gives the string of a name in some language."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from fpgm_core.evaluation import Interval
from fpgm_core.figures.bars import error_bars
from fpgm_core.figures.colours import KEPT, MEDIAN, MEDIAN_SYMBOL, OUTLINE, PRUNED, PRUNED_SYMBOL, QUIET
from fpgm_core.figures.layer import layout

Words = Callable[..., str]
HEIGHT = 380
_STAR = {"symbol": MEDIAN_SYMBOL, "size": 17, "color": MEDIAN, "line": {"color": "white", "width": 1}}
_SERIES = (KEPT, PRUNED, "#009E73", "#CC79A7", OUTLINE, "#56B4E9")  # Okabe and Ito's
_PALE = "rgba(213, 94, 0, 0.35)"  # PRUNED, through which a second one is seen
_SHAPES = ("circle", "diamond", "square", "triangle-up", "cross", "star")


def _layout(x: str, y: str, **more: Any) -> dict[str, Any]:
    """The layers' layout, with room for what stands on the axes: the lesson is also drawn outside of the page."""
    drawn = layout(x, y, height=HEIGHT, clickmode="event", **more)
    for axis in ("xaxis", "yaxis"):
        drawn[axis] |= {"automargin": True}
    return drawn


def _dots(x: Any, y: Any, name: str, **more: Any) -> go.Scatter:
    return go.Scatter(x=np.asarray(x), y=np.asarray(y), mode="markers", name=name, **more)


def _line(x: Any, y: Any, name: str, colour: str, **more: Any) -> go.Scatter:
    return go.Scatter(x=np.asarray(x), y=np.asarray(y), mode="lines", name=name, line={"color": colour}, **more)


def _upright(value: float, colour: str, text: str = "") -> dict[str, Any]:
    """A dashed line across the picture at a place of x, with its label."""
    return {"type": "line", "x0": value, "x1": value, "y0": 0, "y1": 1, "yref": "y domain",
            "line": {"dash": "dash", "color": colour, "width": 1.5},
            "label": {"text": text, "textposition": "end", "font": {"size": 11}, "textangle": 0}}  # fmt: skip


def plane_figure(
    points: np.ndarray,
    median: tuple[float, float],
    by_norm: Sequence[int],
    by_distance: Sequence[int],
    cut: float | None,
    words: Words,
) -> go.Figure:
    """Filters as points of the plane (N, 2): the median, and which ones each criterion drops."""
    angle = np.linspace(0, 2 * np.pi, 121)
    traces = [
        _line(radius * np.cos(angle), radius * np.sin(angle), "", QUIET, hoverinfo="skip", showlegend=False,
              opacity=0.35)
        for radius in (1, 2, 3, 4)
    ]  # fmt: skip
    if cut is not None:
        traces.append(_line(cut * np.cos(angle), cut * np.sin(angle), words("figure.norm_cut"), QUIET))
        traces[-1].line.dash = "dash"
    traces.append(
        go.Scatter(
            x=points[:, 0], y=points[:, 1], mode="markers+text", name=words("figure.filters"),
            text=[str(n) for n in range(len(points))], textfont={"color": "white", "size": 11},
            marker={"size": 20, "color": KEPT}, hovertemplate="%{text}: (%{x:.2f}, %{y:.2f})<extra></extra>",
        )
    )  # fmt: skip
    for chosen, name, colour, symbol in (
        (by_norm, "norm_drops", QUIET, "diamond-open"),
        (by_distance, "fpgm_drops", PRUNED, "square-open"),
    ):
        at = points[list(chosen)] if len(chosen) else np.zeros((0, 2))
        traces.append(_dots(at[:, 0], at[:, 1], words(f"figure.{name}"), hoverinfo="skip",
                            marker={"size": 32, "color": colour, "symbol": symbol, "line": {"width": 3}}))  # fmt: skip
    traces.append(_dots([median[0]], [median[1]], words("figure.median"), marker=_STAR, hoverinfo="skip"))
    drawn = _layout("", "")
    drawn["yaxis"] |= {"scaleanchor": "x", "scaleratio": 1, "range": [-4.2, 4.2]}
    return go.Figure(traces, drawn | {"height": 460})


def bells_figure(
    ideal: tuple[np.ndarray, np.ndarray],
    toy: tuple[np.ndarray, np.ndarray],
    cuts: tuple[float, float],
    words: Words,
) -> go.Figure:
    """The paper's Fig. 2: how norms would have to spread, and how a layer's do; each with the cut of the same rate.

    Curves are (norms, density), (M,) each.
    """
    traces = []
    for (norms, density), cut, name, colour, dash in (
        (ideal, cuts[0], "ideal", QUIET, "dash"),
        (toy, cuts[1], "toy_layer", KEPT, "solid"),
    ):
        traces.append(_line(norms, density, words(f"figure.{name}"), colour))
        traces[-1].line.dash = dash
        below = norms <= cut
        traces.append(go.Scatter(x=norms[below], y=density[below], fill="tozeroy", mode="none", fillcolor=_PALE,
                                 showlegend=name == "toy_layer", name=words("figure.pruned"),
                                 hoverinfo="skip"))  # fmt: skip
    shapes = [_upright(cuts[0], QUIET), _upright(cuts[1], PRUNED, words("figure.threshold"))]
    drawn = _layout(words("figure.norm"), words("figure.density"), shapes=shapes)
    drawn["xaxis"] |= {"rangemode": "tozero", "range": [0, 1.05 * max(toy[0][-1], ideal[0][-1])]}
    drawn["yaxis"] |= {"range": [0, 1.2], "showticklabels": False}
    return go.Figure(traces, drawn)


def requirements_figure(
    names: Sequence[str],
    floors: Sequence[float],
    spreads: Sequence[float],
    toy: tuple[float, float],
    ideal: tuple[float, float],
    words: Words,
) -> go.Figure:
    """The two requirements, (floor, spread), of every layer, the toy layer's and the ideal's."""
    traces = [
        _dots(floors, spreads, words("figure.layers"), text=list(names), marker={"size": 9, "color": KEPT},
              hovertemplate="%{text}<br>min / mean %{x:.2f}<br>std / mean %{y:.2f}<extra></extra>"),
        _dots([toy[0]], [toy[1]], words("figure.toy_layer"), marker={"size": 14, "color": PRUNED, "symbol": "diamond"}),
        _dots([ideal[0]], [ideal[1]], words("figure.ideal"), marker={"size": 15, "color": QUIET, "symbol": "star"}),
    ]  # fmt: skip
    drawn = _layout(words("figure.floor"), words("figure.spread"))
    drawn["xaxis"] |= {"range": [-0.03, 1.03]}
    drawn["yaxis"] |= {"rangemode": "tozero"}
    return go.Figure(traces, drawn)


def layer_norms_figure(names: Sequence[str], norms: Sequence[np.ndarray], words: Words) -> go.Figure:
    """The paper's Fig. 3 on this network: every layer's norms, each divided by the layer's mean, as boxes."""
    traces = [
        go.Box(y=values / values.mean(), name=name, marker={"color": KEPT, "size": 3}, line={"width": 1},
               showlegend=False)
        for name, values in zip(names, norms, strict=True)
    ]  # fmt: skip
    drawn = _layout("", words("figure.relative_norm"))
    drawn["yaxis"] |= {"rangemode": "tozero"}
    drawn["xaxis"] |= {"tickangle": -60, "tickfont": {"size": 9}}
    return go.Figure(traces, drawn)


def walk_figure(
    points: np.ndarray,
    field: tuple[np.ndarray, np.ndarray, np.ndarray],
    path: np.ndarray,
    median: tuple[float, float],
    mean: tuple[float, float],
    words: Words,
) -> go.Figure:
    """f as a contour over the plane, the filters, Weiszfeld's path so far, the mean and the median.

    `field` is (x, y, f), f of shape (len(y), len(x)).
    """
    x, y, f = field
    traces = [
        go.Contour(x=x, y=y, z=f, colorscale="Viridis", showscale=False, contours={"coloring": "lines"}, ncontours=18,
                   hovertemplate="f %{z:.2f}<extra></extra>", name="f"),
        _dots(points[:, 0], points[:, 1], words("figure.filters"), marker={"size": 11, "color": KEPT},
              hovertemplate="(%{x:.2f}, %{y:.2f})<extra></extra>"),
        go.Scatter(x=path[:, 0], y=path[:, 1], mode="lines+markers", name=words("figure.path"),
                   line={"color": OUTLINE, "width": 2}, marker={"size": 7, "color": OUTLINE},
                   text=[str(n) for n in range(len(path))],
                   hovertemplate="%{text}: (%{x:.3f}, %{y:.3f})<extra></extra>"),
        _dots([mean[0]], [mean[1]], words("figure.mean"), marker={"size": 13, "color": QUIET, "symbol": "cross"}),
        _dots([median[0]], [median[1]], words("figure.median"), marker=_STAR),
    ]  # fmt: skip
    drawn = _layout("", "")
    drawn["xaxis"] |= {"range": [float(x[0]), float(x[-1])], "constrain": "domain"}
    drawn["yaxis"] |= {"scaleanchor": "x", "scaleratio": 1, "range": [float(y[0]), float(y[-1])]}
    return go.Figure(traces, drawn)


def terms_figure(distances: np.ndarray, chosen: int, words: Words) -> go.Figure:
    """g of one filter, term by term: its distance to every filter (N,), its own zero in the light."""
    others = np.flatnonzero(np.arange(len(distances)) != chosen)
    bars = go.Bar(x=others, y=distances[others], marker={"color": KEPT}, name=words("figure.terms"),
                  hovertemplate="%{x}: %{y:.4f}<extra></extra>")  # fmt: skip
    own = _dots([chosen], [distances[chosen]], words("figure.own_term"), cliponaxis=False,
                marker={"size": 15, "color": OUTLINE, "symbol": "circle-open", "line": {"width": 4}},
                hovertemplate="%{x}: %{y:.1f}<extra></extra>")  # fmt: skip
    drawn = _layout(words("figure.filter_number"), words("figure.distance", chosen=chosen))
    drawn["yaxis"] |= {"rangemode": "tozero"}
    return go.Figure([bars, own], drawn)


def four_points_figure(
    points: np.ndarray, median: tuple[float, float], nearest: int, medoid: int, words: Words
) -> go.Figure:
    """The counterexample: the point nearest the median, and another that has the smallest sum."""
    labels = [f"{'&nbsp;' * 6}({x:g}, {y:g})" for x, y in points]
    traces = [
        go.Scatter(x=points[:, 0], y=points[:, 1], mode="markers+text", text=labels, textposition="middle right",
                   marker={"size": 13, "color": KEPT}, name=words("figure.filters"), hoverinfo="skip"),
        _dots([points[nearest, 0]], [points[nearest, 1]], words("figure.nearest"), hoverinfo="skip",
              marker={"size": 27, "color": PRUNED, "symbol": "circle-open", "line": {"width": 3}}),
        _dots([points[medoid, 0]], [points[medoid, 1]], words("figure.medoid"), hoverinfo="skip",
              marker={"size": 27, "color": OUTLINE, "symbol": "square-open", "line": {"width": 3}}),
        _dots([median[0]], [median[1]], words("figure.median"), marker=_STAR, hoverinfo="skip"),
    ]  # fmt: skip
    drawn = _layout("", "")
    drawn["xaxis"] |= {"range": [-1.5, 4.5]}
    drawn["yaxis"] |= {"range": [-1, 9]}
    return go.Figure(traces, drawn)


def cloud_figure(norms: np.ndarray, sums: np.ndarray, words: Words) -> go.Figure:
    """A toy cloud's norms against its distance sums, (N,) each."""
    dots = _dots(norms, sums, words("figure.filters"), marker={"size": 8, "color": KEPT},
                 hovertemplate="%{x:.3f}, %{y:.2f}<extra></extra>")  # fmt: skip
    return go.Figure([dots], _layout(words("figure.norm"), words("figure.g")))


def dimensions_figure(
    dimensions: Sequence[int],
    curves: Mapping[float, Sequence[tuple[float, float, float]]],
    here: tuple[int, float, float],
    words: Words,
) -> go.Figure:
    """Rank correlation against dimension: for each centre (mean, low, high) a dimension; `here` the cloud on screen.

    `here` is (dimension, centre, rank correlation).
    """
    traces = []
    for (centre, found), colour in zip(curves.items(), _SERIES, strict=False):
        mean, low, high = np.array(found).T
        traces.append(_line(dimensions, mean, words("figure.centre_at", centre=f"{centre:g}"), colour))
        traces.append(go.Scatter(x=[*dimensions, *dimensions[::-1]], y=[*low, *high[::-1]], fill="toself", mode="none",
                                 fillcolor=colour, opacity=0.12, showlegend=False, hoverinfo="skip"))  # fmt: skip
    traces.append(
        _dots(
            [here[0]],
            [here[2]],
            words("figure.on_screen"),
            marker={"size": 15, "color": MEDIAN, "symbol": "circle-open", "line": {"width": 3}},
        )
    )
    drawn = _layout(words("figure.dimension"), words("figure.rank_correlation"))
    drawn["xaxis"] |= {"type": "log", "tickvals": list(dimensions), "ticktext": list(map(str, dimensions))}
    drawn["yaxis"] |= {"range": [-0.4, 1.05]}
    return go.Figure(traces, drawn)


def layers_figure(groups: Mapping[str, Sequence[tuple[str, int, float, float]]], words: Words) -> go.Figure:
    """Real layers: dimension against rank correlation, coloured by how far off the origin their centre lies.

    `groups` by name, a shape each: (layer, dimension, centre, rank correlation).
    """
    traces = []
    for (name, rows), symbol in zip(groups.items(), _SHAPES, strict=False):
        traces.append(
            _dots(
                [row[1] for row in rows], [row[3] for row in rows], name, text=[row[0] for row in rows],
                customdata=[row[2] for row in rows],
                hovertemplate="%{text}<br>%{x} → ρ %{y:.3f}, %{customdata:.2f}<extra></extra>",
                marker={"size": 11, "symbol": symbol, "color": [row[2] for row in rows], "coloraxis": "coloraxis",
                        "line": {"width": 1, "color": QUIET}},
            )
        )  # fmt: skip
    drawn = _layout(words("figure.dimension"), words("figure.rank_correlation"))
    drawn["xaxis"] |= {"type": "log", "dtick": "D2"}
    bar = {"title": {"text": words("figure.centre"), "side": "right"}, "thickness": 10}
    return go.Figure(traces, drawn | {"coloraxis": {"colorscale": "Cividis", "colorbar": bar, "cmin": 0}})


def stand_in_figure(
    sums: np.ndarray, costs: np.ndarray, chosen: int, nearest: int, smallest: int, words: Words
) -> go.Figure:
    """A layer's filters: g against refit cost, (N,) each; the one nearest the median, the smallest, the chosen one."""
    traces = [
        _dots(sums, costs, words("figure.filters"), customdata=np.arange(len(sums)),
              hovertemplate="%{customdata}: g %{x:.3f}, %{y:.3g}<extra></extra>", marker={"size": 9, "color": KEPT})
    ]  # fmt: skip
    for index, name, colour, symbol in (
        (nearest, "nearest", PRUNED, "circle-open"),
        (smallest, "smallest", QUIET, "diamond-open"),
        (chosen, "chosen", OUTLINE, "square-open"),
    ):
        traces.append(_dots([sums[index]], [costs[index]], words(f"figure.{name}"), hoverinfo="skip",
                            marker={"size": 22, "color": colour, "symbol": symbol, "line": {"width": 3}}))  # fmt: skip
    drawn = _layout(words("figure.g"), words("figure.refit_cost"))
    drawn["yaxis"] |= {"tickformat": ".2~%"}
    if (costs > 0).all():
        drawn["yaxis"] |= {"type": "log", "dtick": "D2"}
    return go.Figure(traces, drawn)


def bars_figure(labels: Sequence[str], values: Sequence[float], axis: str, form: str) -> go.Figure:
    """A few values side by side, each written on its bar in the given d3 format."""
    bars = go.Bar(
        x=list(labels),
        y=list(values),
        marker={"color": [*_SERIES][: len(labels)]},
        showlegend=False,
        texttemplate=f"%{{y:{form}}}",
        textposition="outside",
        cliponaxis=False,
        hoverinfo="skip",
    )
    drawn = _layout("", axis)
    drawn["yaxis"] |= {"rangemode": "tozero", "tickformat": f"{form[:-1]}~{form[-1]}"}
    return go.Figure([bars], drawn | {"margin": {"l": 10, "r": 10, "t": 30, "b": 10}})


def contest_figure(
    rungs: Sequence[str],
    criteria: Mapping[str, Sequence[Interval]],
    control: Sequence[Sequence[float]],
    dense: float | None,
    words: Words,
) -> go.Figure:
    """Accuracy on every rung: of each criterion with its interval, and of every random draw (a list a rung)."""
    places = np.arange(len(rungs), dtype=float)
    drawn_at = [(place - 0.32 + 0.04 * (n % 3), value) for place, values in zip(places, control, strict=True)
                for n, value in enumerate(values)]  # fmt: skip
    traces = [_dots([x for x, _ in drawn_at], [y * 100 for _, y in drawn_at], words("figure.random"),
                    marker={"size": 6, "color": QUIET, "opacity": 0.8},
                    hovertemplate="%{y:.2f}%<extra></extra>")]  # fmt: skip
    for number, (name, found) in enumerate(criteria.items()):
        value = [one.value * 100 for one in found]
        traces.append(_dots(
            places - 0.1 + 0.12 * number, value, name, hovertemplate=f"{name}: %{{y:.2f}}%<extra></extra>",
            error_y=error_bars(found, 100),
            marker={"size": 10, "color": _SERIES[number % len(_SERIES)], "symbol": _SHAPES[number % len(_SHAPES)]},
        ))  # fmt: skip
    lines = []
    if dense is not None:
        lines.append({"type": "line", "y0": dense * 100, "y1": dense * 100, "x0": 0, "x1": 1, "xref": "x domain",
                      "line": {"dash": "dot", "color": QUIET},
                      "label": {"text": words("figure.dense"), "font": {"size": 11}}})  # fmt: skip
    drawn = _layout("", words("figure.accuracy"), shapes=lines)
    drawn["yaxis"] |= {"range": [0, 100]}
    drawn["xaxis"] |= {"tickvals": places, "ticktext": list(rungs), "range": [-0.5, len(rungs) - 0.5]}
    return go.Figure(traces, drawn)


def changes_figure(rows: Sequence[tuple[str, Interval]], words: Words) -> go.Figure:
    """Paired changes in percentage points with their 95% intervals, a row each; those that hold 0 are hollow."""
    rows = list(reversed(rows))
    value = [one.value * 100 for _, one in rows]
    sure = [one.excludes_zero for _, one in rows]
    dots = _dots(value, [name for name, _ in rows], "", showlegend=False,
                 error_x=error_bars([one for _, one in rows], 100, color=QUIET),
                 hovertemplate="%{y}: %{x:+.2f}<extra></extra>",
                 marker={"size": 11, "color": [PRUNED if one else QUIET for one in sure],
                         "symbol": ["circle" if one else "circle-open" for one in sure]})  # fmt: skip
    shapes = [{"type": "line", "x0": 0, "x1": 0, "y0": 0, "y1": 1, "yref": "y domain", "line": {"color": QUIET}}]
    drawn = _layout(words("figure.points"), "", shapes=shapes)
    return go.Figure([dots], drawn | {"height": 120 + 34 * len(rows)})


def flops_figure(
    rates: Sequence[float],
    counted: Sequence[float],
    closed: Sequence[float],
    paper: Mapping[float, float],
    words: Words,
) -> go.Figure:
    """The share cut by rate: counted, by the paper's closed form, and the paper's own printed figures."""
    per_cent = [rate * 100 for rate in rates]
    traces = [
        _line(per_cent, [value * 100 for value in closed], words("figure.closed_form"), QUIET),
        _line(per_cent, [value * 100 for value in counted], words("figure.counted"), KEPT),
        _dots([rate * 100 for rate in paper], list(paper.values()), words("figure.printed"),
              marker={"size": 11, "color": PRUNED, "symbol": PRUNED_SYMBOL}),
    ]  # fmt: skip
    return go.Figure(traces, _layout(words("figure.rate"), words("figure.cut")))
