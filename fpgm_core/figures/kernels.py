"""A filter's kernels beside its nearest twin's, on one colour scale a layer."""

from __future__ import annotations

import math

import numpy as np
import plotly.graph_objects as go


def tile(filter_weights: np.ndarray) -> np.ndarray:
    """Lay a filter's kernels (C, kH, kW) out on a near-square grid, a NaN line between them."""
    channels, height, width = filter_weights.shape
    columns = math.ceil(math.sqrt(channels))
    rows = math.ceil(channels / columns)
    sheet = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), np.nan)
    for index, kernel in enumerate(filter_weights):
        row, column = divmod(index, columns)
        top, left = row * (height + 1), column * (width + 1)
        sheet[top : top + height, left : left + width] = kernel
    return sheet


def kernels_figure(layer_weights: np.ndarray, chosen: int, *, twin: int | None) -> go.Figure:
    """Filter `chosen`, its `twin` and their difference, of a layer's weights (N, C, kH, kW).

    One diverging scale around 0, the same for the whole layer, so that pictures of different filters compare.
    """
    limit = float(np.abs(layer_weights).max()) or 1.0
    panels = [(f"filter {chosen}", layer_weights[chosen])]
    if twin is not None:
        panels.append((f"nearest: {twin}", layer_weights[twin]))
        panels.append(("difference", layer_weights[chosen] - layer_weights[twin]))
    traces, layout, width = [], {"height": 210, "margin": {"l": 0, "r": 0, "t": 24, "b": 0}}, 1 / len(panels)
    layout["annotations"] = [
        {"text": title, "x": (column + 0.5) * width, "y": 1, "xref": "paper", "yref": "paper", "font": {"size": 12},
         "xanchor": "center", "yanchor": "bottom", "showarrow": False}
        for column, (title, _) in enumerate(panels)
    ]  # fmt: skip
    # Built in one go: plotly's subplots change a figure axis by axis, and validate it each time.
    for column, (title, weights) in enumerate(panels):
        axis = str(column + 1) if column else ""
        layout[f"xaxis{axis}"] = {"visible": False, "domain": [column * width, (column + 0.92) * width]}
        layout[f"yaxis{axis}"] = {"visible": False, "scaleanchor": f"x{axis}", "anchor": f"x{axis}"}
        traces.append(
            go.Heatmap(
                z=tile(weights)[::-1].astype(np.float32),
                zmin=-limit,
                zmax=limit,
                xaxis=f"x{axis}",
                yaxis=f"y{axis}",
                colorscale="RdBu",
                showscale=column == len(panels) - 1,
                colorbar={"thickness": 8, "len": 0.9},
                hovertemplate=f"{title}: %{{z:.4f}}<extra></extra>",
            )
        )
    return go.Figure(traces, layout)
