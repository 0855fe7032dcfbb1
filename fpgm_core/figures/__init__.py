"""Pictures: data in, plotly figures out. The only room that knows plotly."""
# ruff: noqa: E402 (where plotly is missing, one line says so before any other import fails)

from fpgm_core.runtime.extras import require as _require

_require("plotly", extra="figures")

from fpgm_core.figures.colours import SERIES
from fpgm_core.figures.compare import class_change_figure, confusion_figure
from fpgm_core.figures.grid import grid_figure
from fpgm_core.figures.labels import LABELS
from fpgm_core.figures.replaceability import agreement_figure, heat_strips
from fpgm_core.figures.sensitivity import sensitivity_curves, sweep_figure
from fpgm_core.figures.trace import TracePoint, trace_figure
from fpgm_core.figures.training import training_figure

__all__ = [
    "LABELS",
    "SERIES",
    "TracePoint",
    "agreement_figure",
    "class_change_figure",
    "confusion_figure",
    "grid_figure",
    "heat_strips",
    "sensitivity_curves",
    "sweep_figure",
    "trace_figure",
    "training_figure",
]
