"""Repair without images: each removed filter folded into its nearest kept twin (Neuron Merging, NeurIPS 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fpgm_core.data import ImageSet
from fpgm_core.graph import Flow, WeightedLayer
from fpgm_core.graph.flow import NEVER
from fpgm_core.inference import folded_module
from fpgm_core.pruning import PrunedNetwork, RecoveryStep
from fpgm_core.recovery.method import RecoveryContext, RecoveryMethod
from fpgm_core.runtime.progress import Progress, Work

COSINE_SHARE = 0.85  # of the cosine distance in the distance between twins; the rest is the biases'


@dataclass(frozen=True)
class Twins:
    """For each removed filter of a layer the kept filter that stands in for it, and how much of it.

    `twin` int (N,), -1 where there is none (the filter is kept, or none points its way); `scale` float64 (N,).
    """

    twin: np.ndarray
    scale: np.ndarray


def twins(filters: Tensor, biases: Tensor, keep_mask: np.ndarray) -> Twins:
    """Each removed filter's nearest kept twin; `filters` (N, ...) and `biases` (N,) with the norm folded in.

    If F_j = s F_i and b_j = s b_i with s > 0, channel j is s times channel i behind a ReLU, and nothing is lost.
    The twin minimises 0.85 (1 - cos(F_j, F_i)) + 0.15 |b_j - s b_i| / max |b_j - s b|, s = ||F_j|| / ||F_i||, among
    kept filters of positive cosine (Kim et al., Neuron Merging: Compensating for Pruned Neurons, NeurIPS 2020).
    """
    flat, bias = filters.detach().double().flatten(1).cpu(), biases.detach().double().cpu()
    norms = flat.norm(dim=1)
    units = F.normalize(flat, dim=1)
    kept = torch.from_numpy(np.flatnonzero(keep_mask & (norms.numpy() > 0)))
    found, scale = np.full(len(flat), -1), np.zeros(len(flat))
    for j in np.flatnonzero(~keep_mask):
        cosine = units[kept] @ units[j]
        if not len(kept) or float(cosine.max()) <= 0:
            continue
        size = norms[j] / norms[kept]
        apart = (bias[j] - size * bias[kept]).abs()
        apart = apart / apart.max().clamp_min(torch.finfo(torch.float64).tiny)
        distance = COSINE_SHARE * (1 - cosine) + (1 - COSINE_SHARE) * apart
        best = int(distance.masked_fill(cosine <= 0, torch.inf).argmin())
        found[j], scale[j] = int(kept[best]), float(size[best])
    return Twins(found, scale)


def merged_tensors(pruned: PrunedNetwork) -> dict[str, Tensor]:
    """The consumers' weights with every removed channel's columns added, scaled, to those of its twin.

    Only where a channel and its twin are each written by one filter of the same ordinary convolution: of a sum one
    writer cannot be told from the others, and a depthwise filter's twin reads another channel. Shapes as in the
    dense network; data-free, so norm statistics stay as they are.
    """
    flow, live, module = pruned.network.flow, pruned.live, pruned.dense_shaped()
    folded = folded_module(module, flow)
    stands = {
        site.name: twins(*_effective(folded, site), live[site.filter_offset : site.filter_offset + site.outputs])
        for site in flow.convs
        if site.filter_offset >= 0
        and site.groups == 1
        and not site.transposed
        and not pruned.keep_masks.get(site.name, np.ones(1)).all()
    }
    found: dict[str, Tensor] = {}
    for reader in flow.sites:
        if reader.groups == 1 and reader.name not in flow.repeated:
            weight = module.get_submodule(reader.name).get_parameter("weight").detach()
            merged = _merged(flow, reader, weight, stands)
            if merged is not None:
                found[f"{reader.name}.weight"] = merged
    return found


def _effective(folded: nn.Module, site: WeightedLayer) -> tuple[Tensor, Tensor]:
    layer = folded.get_submodule(site.name)
    weight, bias = layer.get_parameter("weight"), layer._parameters.get("bias")
    return weight, torch.zeros(len(weight)) if bias is None else bias


def _merged(flow: Flow, reader: WeightedLayer, weight: Tensor, stands: Mapping[str, Twins]) -> Tensor | None:
    """A consumer's weight with twins standing in, None where nothing changes."""
    sole = _sole_writers(reader)
    new = None
    for name, found in stands.items():
        first = next(site.filter_offset for site in flow.convs if site.name == name)
        for j in np.flatnonzero(found.twin >= 0):
            gone, twin = (np.flatnonzero(sole == first + f) for f in (j, found.twin[j]))
            if len(gone) and len(gone) == len(twin):
                new = weight.clone() if new is None else new
                new[:, twin] += found.scale[j] * weight[:, gone]
    return new


def _sole_writers(reader: WeightedLayer) -> np.ndarray:
    """For each input channel or feature the one filter that writes it, NEVER where there are several, or none."""
    ranked = np.sort(reader.reads, axis=0)
    several = (ranked[:-1] != NEVER).any(0) if len(ranked) > 1 else np.zeros(ranked.shape[1], dtype=bool)
    return np.where(several, NEVER, ranked[-1])


def _merged_work(pruned: PrunedNetwork, images: ImageSet | None, context: RecoveryContext) -> Work[PrunedNetwork]:
    yield Progress(0, what="merging")
    return pruned.with_tensors(merged_tensors(pruned), RecoveryStep("merged"))


MERGED = RecoveryMethod(
    "merged",
    "Merged",
    "Each removed filter is folded, scaled, into the kept one most like it; no images needed.",
    _merged_work,
)
