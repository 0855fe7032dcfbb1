"""The L2 norm: a filter's Euclidean length."""

from __future__ import annotations

import torch
from torch import Tensor

from fpgm_core.criteria.criterion import Criterion, SelectionOptions, Stage


def l2_norms(filters: Tensor, layer: str = "", options: SelectionOptions = SelectionOptions()) -> Tensor:
    """The L2 norms (N,), float64, of filters (N, ...)."""
    return torch.linalg.vector_norm(filters.detach().to(torch.float64).flatten(1), dim=1)


L2_NORM = Criterion(
    name="l2_norm",
    title="L2 norm",
    summary="Prunes the filters of the smallest Euclidean norm.",
    assumes="a smaller norm means a less important filter",
    source="He et al., Soft Filter Pruning, IJCAI 2018; FPGM paper, section 3.2",
    stages=(Stage(l2_norms),),
)
