"""Pictures of what is replaceable: each layer's answers to the two questions, and the damage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from fpgm_core.evaluation import QUESTIONS, Finding, Replaceability
from fpgm_core.figures.bars import error_bars
from fpgm_core.figures.colours import KEPT, MEDIAN, QUIET
from fpgm_core.figures.labels import LABELS

_ROW = 24  # pixels of a layer


def agreement_figure(
    layers: Sequence[Replaceability], chosen: str | None, labels: Mapping[str, str] = LABELS
) -> go.Figure:
    """Each layer's rank correlations with 95% intervals, a panel a question: g's and, where it is asked, the norm's.

    Filled where the verdict is not undecided, see `Finding`; `chosen` stands out. A mark's first `customdata` is its
    layer's number.
    """
    names, traces, drawn = [layer.layer for layer in layers], list[go.Scatter](), dict[str, Any]()
    for number, question in enumerate(QUESTIONS.values(), 1):
        axis = "" if number == 1 else str(number)
        for of_norm in (False, True):
            findings = [(layer.by_norm if of_norm else layer.by_distance).get(question.name) for layer in layers]
            trace = _correlations(names, findings, of_norm=of_norm, labels=labels)
            traces.append(trace.update(xaxis=f"x{axis}", showlegend=number == 1))
        left = (number - 1) / len(QUESTIONS)
        drawn[f"xaxis{axis}"] = {
            "title": labels["premise"].format(
                pair=labels[f"pair_{question.name}"], sign=">" if question.sign > 0 else "<"
            ),
            "domain": [left, left + 1 / len(QUESTIONS) - 0.02],
            "range": [-1.02, 1.02],
            "zeroline": True,
            "zerolinecolor": QUIET,
        }
    rows = {"tickvals": list(range(len(names))), "ticktext": names, "range": [len(names) - 0.5, -0.5]}
    frame = {
        "height": 100 + _ROW * max(4, len(names)),
        "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
        "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
        "clickmode": "event+select",
        "hovermode": "closest",
        "shapes": [_band(names.index(chosen))] if chosen in names else [],
        "yaxis": rows | {"zeroline": False, "automargin": True},
    }
    return go.Figure(traces, frame | drawn)


def _band(row: int) -> dict[str, Any]:
    """What sets a row apart, across all panels."""
    place = {"x0": 0, "x1": 1, "xref": "paper", "y0": row - 0.5, "y1": row + 0.5, "layer": "below"}
    return {"type": "rect", **place, "fillcolor": MEDIAN, "opacity": 0.15, "line": {"width": 0}}


def _correlations(
    names: Sequence[str], findings: Sequence[Finding | None], *, of_norm: bool, labels: Mapping[str, str]
) -> go.Scatter:
    """The layers' findings, a row each, g's above the norm's; layers without an interval are left out."""
    label, shift = (labels["norm"], 0.14) if of_norm else ("g", -0.14)
    known = [
        (row, finding, finding.interval)
        for row, finding in enumerate(findings)
        if finding is not None and finding.interval is not None
    ]
    colour, symbol = (QUIET, "diamond") if of_norm else (KEPT, "circle")
    open_or_filled = ["-open" if finding.verdict == "undecided" else "" for _, finding, _ in known]
    return go.Scatter(
        x=[rho.value for _, _, rho in known],
        y=[row + shift for row, _, _ in known],
        error_x=error_bars([rho for _, _, rho in known], thickness=1.5),
        mode="markers",
        name=label,
        text=[f"{names[row]}: {rho.told()}<br>{labels[f'verdict_{finding.verdict}']}" for row, finding, rho in known],
        customdata=[row for row, _, _ in known],
        hovertemplate=f"{label}, %{{text}}<extra></extra>",
        marker={"color": colour, "symbol": [symbol + kind for kind in open_or_filled], "size": 9},
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
