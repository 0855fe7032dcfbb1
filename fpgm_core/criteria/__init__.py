"""Scoring filters: criteria, geometry, norm diagnostics, projections."""

from fpgm_core.criteria.criterion import Criterion, Scores, SelectionOptions, Stage
from fpgm_core.criteria.diagnostics import NormDiagnostics, norm_diagnostics, overlap, rankdata, spearman
from fpgm_core.criteria.geometry import (
    cosine_sums,
    distance_sums,
    geometric_median,
    manhattan_sums,
    medoid,
    pairwise_distances,
    weiszfeld_step,
)
from fpgm_core.criteria.projections import (
    Projection,
    exact_projections,
    from_coordinates,
    pca,
    radial,
    ready_umap,
    trustworthiness,
    umap,
)
from fpgm_core.criteria.registry import CRITERIA, get_criterion, register_criterion, unregister_criterion
from fpgm_core.criteria.rounding import check_rate, num_pruned
from fpgm_core.criteria.scoring import batch_norm_scores, check_scorable, score, score_work
from fpgm_core.criteria.selection import combined, select, unit_scores

__all__ = [
    "CRITERIA",
    "Criterion",
    "NormDiagnostics",
    "Projection",
    "Scores",
    "SelectionOptions",
    "Stage",
    "batch_norm_scores",
    "check_rate",
    "check_scorable",
    "combined",
    "cosine_sums",
    "distance_sums",
    "exact_projections",
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
    "ready_umap",
    "register_criterion",
    "score",
    "score_work",
    "select",
    "spearman",
    "trustworthiness",
    "umap",
    "unit_scores",
    "unregister_criterion",
    "weiszfeld_step",
]
