"""FPGM as its Eq. 3 has it: a filter's distance to the layer's geometric median."""

from __future__ import annotations

from torch import Tensor

from fpgm_core.criteria import geometry
from fpgm_core.criteria.criterion import Criterion, SelectionOptions, Stage


def distances_to_median(filters: Tensor, layer: str = "", options: SelectionOptions = SelectionOptions()) -> Tensor:
    """Distances (N,), float64, of filters (N, ...) to their geometric median; see `geometric_median`."""
    return geometry.geometric_median(filters).distances


FPGM_EXACT = Criterion(
    name="fpgm_exact",
    title="Distance to the exact median",
    summary="Prunes the filters nearest the layer's geometric median itself.",
    assumes="the others can stand in for a filter near the median",
    source="FPGM paper, Eq. 3; median by Weiszfeld with Vardi and Zhang's step",
    stages=(Stage(distances_to_median),),
)
