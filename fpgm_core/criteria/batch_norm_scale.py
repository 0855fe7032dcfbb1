"""Network Slimming's score: how much batch normalisation scales a filter's channel."""

from __future__ import annotations

from fpgm_core.calibration import prunable_layers
from fpgm_core.criteria.criterion import Criterion, Scores
from fpgm_core.graph import TracedModule


def batch_norm_scales(network: TracedModule) -> Scores:
    """|gamma| of the batch norm behind each convolution that can be pruned; layers without one are left out."""
    scales = {}
    for norm in network.flow.batch_norms:
        if norm.after is not None and norm.affine:
            gamma = network.module.get_submodule(norm.name).get_parameter("weight")
            scales[norm.after] = gamma.detach().double().abs().cpu().numpy()
    return {name: scales[name] for name in prunable_layers(network) if name in scales}


BATCH_NORM_SCALE = Criterion(
    name="bn_scale",  # as plan files have it
    title="Batch norm's scale",
    summary="Prunes the filters whose batch normalisation scales them least.",
    assumes="a channel that is scaled down says little",
    source="Liu et al., Network Slimming, ICCV 2017",
    score_batch_norms=batch_norm_scales,
)
