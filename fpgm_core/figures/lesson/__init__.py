"""The lesson's pictures. Every label on them is handed in: `words` gives the string of a name in some language."""

from fpgm_core.figures.lesson.measured import (
    bars_figure,
    changes_figure,
    contest_figure,
    flops_figure,
    stand_in_figure,
)
from fpgm_core.figures.lesson.weights import (
    bells_figure,
    cloud_figure,
    dimensions_figure,
    four_points_figure,
    layer_norms_figure,
    layers_figure,
    median_figure,
    outlier_figure,
    plane_figure,
    requirements_figure,
    terms_figure,
)

__all__ = [
    "bars_figure",
    "bells_figure",
    "changes_figure",
    "cloud_figure",
    "contest_figure",
    "dimensions_figure",
    "flops_figure",
    "four_points_figure",
    "layer_norms_figure",
    "layers_figure",
    "median_figure",
    "outlier_figure",
    "plane_figure",
    "requirements_figure",
    "stand_in_figure",
    "terms_figure",
]
