"""First-order Taylor: how much the loss changes when a filter's channel is scaled."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fpgm_core.calibration import prunable_layers
from fpgm_core.criteria.criterion import Criterion, Scores
from fpgm_core.data import ImageSet
from fpgm_core.graph import TracedModule, overlay
from fpgm_core.runtime.locks import FORWARD_LOCK
from fpgm_core.runtime.progress import Progress, Work


def taylor_work(
    network: TracedModule,
    images: ImageSet,
    device: torch.device = torch.device("cpu"),
    *,
    num_images: int = 1024,
    batch: int = 32,
) -> Work[Scores]:
    """First-order Taylor scores of every layer that can be pruned, on the first `num_images` of training images.

    The mean over batches of (dL / dz)^2, where z = 1 multiplies a filter's channel behind its batch norm and L is the
    batch's cross-entropy (Molchanov et al., CVPR 2019, Eq. 8, gates). The size of a `batch` is part of the
    definition: contributions are summed over a batch, then squared.
    """
    images = images.first(min(num_images, len(images))).to(device)
    view = overlay(network.module, {}).to(device)
    gates = _gates(network, view, device)
    sums = {name: torch.zeros(gate.numel(), dtype=torch.float64, device=device) for name, gate in gates.items()}
    begins = range(0, len(images), batch)
    for begin in begins:
        end = min(begin + batch, len(images))
        with FORWARD_LOCK, torch.enable_grad():
            loss = F.cross_entropy(view(images.normalised(begin, end)), images.labels[begin:end])
            slopes = torch.autograd.grad(loss, list(gates.values()), allow_unused=True)
        for name, slope in zip(gates, slopes, strict=True):
            if slope is not None:
                sums[name] += slope.double().flatten().square()
        yield Progress(end, len(images), "measuring slopes of the loss")
    return {name: (total / len(begins)).cpu().numpy() for name, total in sums.items()}


def _gates(network: TracedModule, view: nn.Module, device: torch.device) -> dict[str, Tensor]:
    """Ones that multiply every prunable layer's channels, behind its batch norm where it has one of its own."""
    batch_norms = {norm.after: norm.name for norm in network.flow.batch_norms if norm.after is not None}
    gates, layers = dict[str, Tensor](), set(prunable_layers(network))
    for layer in network.flow.convs:
        if layer.name not in layers:
            continue
        owner = view.get_submodule(batch_norms.get(layer.name, layer.name))
        shape = (layer.outputs,) if isinstance(owner, nn.Linear) else (layer.outputs, 1, 1)
        gate = torch.ones(shape, device=device, requires_grad=True)
        owner.register_forward_hook(lambda _, __, output, gate=gate: output * gate)
        gates[layer.name] = gate
    return gates


TAYLOR = Criterion(
    name="taylor",
    title="Taylor, first order",
    summary="Prunes the filters whose removal changes the loss least, to first order.",
    assumes="the loss is linear in each filter, all the way to zero",
    source="Molchanov et al., Importance Estimation for Neural Network Pruning, CVPR 2019, Eq. 8",
    score_images=taylor_work,
)
