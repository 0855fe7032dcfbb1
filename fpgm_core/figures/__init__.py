"""Pictures: data in, plotly figures out. The only room that knows plotly."""
# ruff: noqa: E402 (where plotly is missing, one line says so before any other import fails)

from fpgm_core.runtime.extras import require as _require

_require("plotly", extra="figures")

from fpgm_core.figures.kernels import kernels_figure, tile
from fpgm_core.figures.layer import (
    FilterStates,
    cut_line,
    map_figure,
    norms_figure,
    radial_figure,
    scores_figure,
)
from fpgm_core.figures.replaceability import agreement_figure, cost_figure, heat_strips
from fpgm_core.figures.sensitivity import sensitivity_curves, sweep_figure
from fpgm_core.figures.trace import TracePoint, trace_figure
from fpgm_core.figures.training import training_figure

__all__ = [
    "FilterStates",
    "TracePoint",
    "agreement_figure",
    "cost_figure",
    "cut_line",
    "heat_strips",
    "kernels_figure",
    "map_figure",
    "norms_figure",
    "radial_figure",
    "scores_figure",
    "sensitivity_curves",
    "sweep_figure",
    "tile",
    "trace_figure",
    "training_figure",
]
