"""The L1 norm: the sum of a filter's absolute weights."""

from __future__ import annotations

import torch
from torch import Tensor

from fpgm_core.criteria.criterion import Criterion, SelectionOptions, Stage


def l1_norms(filters: Tensor, layer: str = "", options: SelectionOptions = SelectionOptions()) -> Tensor:
    """The L1 norms (N,), float64, of filters (N, ...)."""
    return filters.detach().to(torch.float64).flatten(1).abs().sum(1)


L1_NORM = Criterion(
    name="l1_norm",
    title="L1 norm",
    summary="Prunes the filters whose absolute weights sum to the least.",
    assumes="a smaller norm means a less important filter",
    source="Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017",
    stages=(Stage(l1_norms),),
)
