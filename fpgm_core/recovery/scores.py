"""Scores that need more than a layer's weights: from norms, second moments, gradients; handed to the network once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fpgm_core.calibration.block_obs import UnitLoss, greedy_order, readings
from fpgm_core.calibration.moments import Calibration, Moments, calibrate_steps, prunable_layers
from fpgm_core.criteria import get_criterion
from fpgm_core.data import ImageSet, load_images
from fpgm_core.errors import FpgmError
from fpgm_core.graph import overlay
from fpgm_core.pruning import Network
from fpgm_core.runtime.locks import FORWARD_LOCK
from fpgm_core.runtime.progress import finished

Scores = dict[str, np.ndarray]
TAYLOR_IMAGES = 1024
TAYLOR_BATCH = 32  # part of the definition: contributions are summed over a batch, then squared


def provide_steps(
    network: Network,
    criterion: str,
    images: ImageSet | None = None,
    device: torch.device = torch.device("cpu"),
) -> Iterator[float]:
    """Make a criterion's scores for every layer that can be pruned, and hand them to `network`; yields the share done.

    Nothing is done for a criterion that needs weights alone, or whose scores are there. Moments are those of
    `calibrate_steps` as it comes, so that a plan means the same filters everywhere.

    Raises FpgmError where the network has no images here, or no norms, or is not trained.
    """
    if network.has_scores(criterion):
        return
    if get_criterion(criterion).needs != "norms" and not network.trained:
        raise FpgmError(f"{criterion} needs a trained network: {network.notice}")
    scores = yield from finished(_MAKERS[criterion](network, images, device))
    if not scores:
        raise FpgmError(f"{criterion} finds nothing to score in {network.name}; choose another criterion")
    network._scores = {**network._scores, criterion: scores}  # until score_work replaces this


def provide(network: Network, criterion: str, **more: Any) -> None:
    """As `provide_steps`, all at once."""
    for _ in provide_steps(network, criterion, **more):
        pass


def _layers(network: Network) -> list[str]:
    """The convolutions that some coupling may prune, in forward order."""
    members = prunable_layers(network)
    return [site.name for site in network.flow.convs if site.name in members]


def bn_scales(network: Network) -> Scores:
    """|gamma| of the norm behind each convolution, float64 (N,), by layer; layers without one are left out."""
    found: Scores = {}
    for norm in network.flow.norms:
        if norm.after is not None and norm.affine:
            scale = network.module.get_submodule(norm.name).get_parameter("weight")
            found[norm.after] = scale.detach().double().abs().cpu().numpy()
    return {name: found[name] for name in _layers(network) if name in found}


def taylor_steps(
    network: Network, images: ImageSet | None = None, device: torch.device = torch.device("cpu")
) -> Iterator[float | Scores]:
    """First-order Taylor scores; yields the share that is done, 0..1, and last (N,) float64 by layer.

    The mean over batches of 32 training images of (dL / dz)^2, where z = 1 multiplies a filter's channel behind its
    norm and L is the batch's cross-entropy (Molchanov et al., CVPR 2019, Eq. 8, gates).
    """
    images = load_images(network.dataset, "train") if images is None else images
    images = images.first(min(TAYLOR_IMAGES, len(images))).to(device)
    view = overlay(network.module, {}).to(device)
    gates = _gates(network, view, device)
    sums = {name: torch.zeros(gate.numel(), dtype=torch.float64, device=device) for name, gate in gates.items()}
    begins = range(0, len(images), TAYLOR_BATCH)
    for begin in begins:
        end = min(begin + TAYLOR_BATCH, len(images))
        with FORWARD_LOCK, torch.enable_grad():
            loss = F.cross_entropy(view(images.normalised(begin, end)), images.labels[begin:end])
            slopes = torch.autograd.grad(loss, list(gates.values()), allow_unused=True)
        for name, slope in zip(gates, slopes, strict=True):
            if slope is not None:
                sums[name] += slope.double().flatten().square()
        yield end / len(images)
    yield {name: (total / len(begins)).cpu().numpy() for name, total in sums.items()}


def _gates(network: Network, view: nn.Module, device: torch.device) -> dict[str, Tensor]:
    """Ones that multiply every prunable layer's channels, behind its norm where it has one of its own."""
    behind = {norm.after: norm.name for norm in network.flow.norms if norm.after is not None}
    gates, layers = dict[str, Tensor](), set(_layers(network))
    for site in network.flow.convs:
        if site.name not in layers:
            continue
        owner = view.get_submodule(behind.get(site.name, site.name))
        shape = (site.outputs,) if isinstance(owner, nn.Linear) else (site.outputs, 1, 1)
        gate = torch.ones(shape, device=device, requires_grad=True)
        owner.register_forward_hook(lambda _, __, output, gate=gate: output * gate)
        gates[site.name] = gate
    return gates


def refit_cost_steps(network: Network, moments: Moments, greedy: bool = False) -> Iterator[float | Scores]:
    """Refit cost of every layer by itself; yields the share that is done, 0..1, and last (N,) float64 by layer.

    With `greedy` the score is the step at which a filter goes, 1 to N, when always the cheapest next one goes.
    Layers whose consumers have no moments, or that nobody reads who could be refitted, are left out.
    """
    layers, found = _layers(network), Scores()
    for number, name in enumerate(layers, 1):
        read = readings(network, [name])
        if read and all(one.layer in moments.layers for one in read):
            loss = UnitLoss.of(network, [name], moments)
            if greedy:
                found[name] = np.empty(loss.size)
                found[name][greedy_order(loss)] = np.arange(1, loss.size + 1)
            else:
                found[name] = loss.costs()
        yield number / len(layers)
    yield found


def _refit_cost(
    greedy: bool, network: Network, images: ImageSet | None, device: torch.device
) -> Iterator[float | Scores]:
    moments = yield from finished(calibrate_steps(network, Calibration(), images, device), 0, 0.5)
    yield (yield from finished(refit_cost_steps(network, moments, greedy), 0.5))


_Maker = Callable[[Network, ImageSet | None, torch.device], Iterator[float | Scores]]
_MAKERS: Mapping[str, _Maker] = {
    "refit_cost": lambda network, images, device: _refit_cost(False, network, images, device),
    "refit_cost_greedy": lambda network, images, device: _refit_cost(True, network, images, device),
    "bn_scale": lambda network, images, device: iter([bn_scales(network)]),
    "taylor": taylor_steps,
}
