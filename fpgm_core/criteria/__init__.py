"""Scoring filters: criteria, geometry, norm diagnostics, projections."""

from fpgm_core.criteria.diagnostics import (NormDiagnostics, norm_diagnostics, overlap, rankdata, spearman)
from fpgm_core.criteria.geometry import (cosine_sums, distance_sums, geometric_median, manhattan_sums, medoid, pairwise_distances, weiszfeld_step)
from fpgm_core.criteria.projections import (Projection, from_coordinates, pca, radial, trustworthiness, umap)
from fpgm_core.criteria.registry import (CRITERIA, DATA_CRITERIA, Criterion, SelectionOptions, combined, get_criterion, select, unit_scores)
from fpgm_core.criteria.selection import (check_rate, num_pruned)

__all__ = [
    "CRITERIA",
    "DATA_CRITERIA",
    "Criterion",
    "NormDiagnostics",
    "Projection",
    "SelectionOptions",
    "check_rate",
    "combined",
    "cosine_sums",
    "distance_sums",
    "from_coordinates",
    "geometric_median",
    "get_criterion",
    "manhattan_sums",
    "medoid",
    "norm_diagnostics",
    "num_pruned",
    "overlap",
    "pairwise_distances",
    "pca",
    "radial",
    "rankdata",
    "select",
    "spearman",
    "trustworthiness",
    "umap",
    "unit_scores",
    "weiszfeld_step",
]
