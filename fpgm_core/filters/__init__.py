"""Looking at filters: layers, criteria, geometry, norm diagnostics, projections."""

from fpgm_core.filters.criteria import (
    CRITERIA,
    DATA_CRITERIA,
    Criterion,
    Options,
    combined,
    get_criterion,
    select,
    unit_scores,
)
from fpgm_core.filters.diagnostics import NormDiagnostics, norm_diagnostics, overlap, ranks, spearman
from fpgm_core.filters.geometry import (
    GeometricMedian,
    cosine_sums,
    distance_sums,
    geometric_median,
    manhattan_sums,
    medoid,
    pairwise_distances,
    weiszfeld_step,
)
from fpgm_core.filters.layers import Layer, dense_layers, weights_of
from fpgm_core.filters.projections import Faithfulness, Projection, pca, placed, radial, trustworthiness, umap
from fpgm_core.filters.selection import check_rate, num_pruned

__all__ = [
    "CRITERIA",
    "DATA_CRITERIA",
    "Criterion",
    "Faithfulness",
    "GeometricMedian",
    "Layer",
    "NormDiagnostics",
    "Options",
    "Projection",
    "check_rate",
    "combined",
    "cosine_sums",
    "dense_layers",
    "distance_sums",
    "geometric_median",
    "get_criterion",
    "manhattan_sums",
    "medoid",
    "norm_diagnostics",
    "num_pruned",
    "overlap",
    "pairwise_distances",
    "pca",
    "placed",
    "radial",
    "ranks",
    "select",
    "spearman",
    "trustworthiness",
    "umap",
    "unit_scores",
    "weights_of",
    "weiszfeld_step",
]
