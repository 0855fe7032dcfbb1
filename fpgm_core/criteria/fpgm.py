"""FPGM: the sum of a filter's distances to the others, by Euclidean, L1 or cosine distance."""

from __future__ import annotations

from torch import Tensor

from fpgm_core.criteria import geometry
from fpgm_core.criteria.criterion import Criterion, SelectionOptions, Stage


def euclidean(filters: Tensor, layer: str = "", options: SelectionOptions = SelectionOptions()) -> Tensor:
    """g(F_j), see `distance_sums`."""
    return geometry.distance_sums(filters)


def manhattan(filters: Tensor, layer: str = "", options: SelectionOptions = SelectionOptions()) -> Tensor:
    """The same with L1 distances, see `manhattan_sums`."""
    return geometry.manhattan_sums(filters)


def cosine(filters: Tensor, layer: str = "", options: SelectionOptions = SelectionOptions()) -> Tensor:
    """The same with cosine distances, see `cosine_sums`."""
    return geometry.cosine_sums(filters)


FPGM = Criterion(
    name="fpgm",
    title="FPGM",
    summary="Prunes the filters with the smallest sum of distances to the others, nearest the layer's centre.",
    assumes="the others can stand in for a filter in their midst",
    source="He et al., Filter Pruning via Geometric Median, CVPR 2019, Eq. 4",
    stages=(Stage(euclidean),),
)

FPGM_L1 = Criterion(
    name="fpgm_l1",
    title="FPGM, L1 distance",
    summary="FPGM with distances that add absolute differences.",
    assumes="the others can stand in for a filter in their midst",
    source="FPGM paper, section 4.4 (choice of distance)",
    stages=(Stage(manhattan),),
)

FPGM_COSINE = Criterion(
    name="fpgm_cosine",
    title="FPGM, cosine distance",
    summary="FPGM with distances between directions: lengths do not count.",
    assumes="filters of similar direction can stand in for each other",
    source="FPGM paper, section 4.4 (choice of distance)",
    stages=(Stage(cosine),),
)
