"""Scores that need more than a layer's weights: from norms, second moments, gradients; handed to the network once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fpgm_core.data import ImageSet, load_images
from fpgm_core.errors import FpgmError
from fpgm_core.filters import get_criterion
from fpgm_core.forward_lock import FORWARD
from fpgm_core.pruning import Prunable, overlay
from fpgm_core.repair.moments import Calibration, Moments, calibrate_steps, prunable_layers
from fpgm_core.repair.obs import UnitLoss, greedy_order, readings
from fpgm_core.steps import finished

Scores = dict[str, np.ndarray]
TAYLOR_IMAGES = 1024
TAYLOR_BATCH = 32  # part of the definition: contributions are summed over a batch, then squared


def provide_steps(
    prunable: Prunable,
    criterion: str,
    images: ImageSet | None = None,
    device: torch.device = torch.device("cpu"),
) -> Iterator[float]:
    """Make a criterion's scores for every layer that can be pruned, and hand them to `prunable`; yields the share done.

    Nothing is done for a criterion that needs weights alone, or whose scores are there. Moments are those of
    `calibrate_steps` as it comes, so that a plan means the same filters everywhere.

    Raises FpgmError where the network has no images here, or no norms, or is not trained.
    """
    if prunable.has_scores(criterion):
        return
    if get_criterion(criterion).needs != "norms" and not prunable.loaded.trained:
        raise FpgmError(f"{criterion} needs a trained network: {prunable.loaded.notice}")
    scores = yield from finished(_MAKERS[criterion](prunable, images, device))
    if not scores:
        raise FpgmError(f"{criterion} finds nothing to score in {prunable.loaded.info.name}; choose another criterion")
    prunable.hand_scores(criterion, scores)


def provide(prunable: Prunable, criterion: str, **more: Any) -> None:
    """As `provide_steps`, all at once."""
    for _ in provide_steps(prunable, criterion, **more):
        pass


def _layers(prunable: Prunable) -> list[str]:
    """The convolutions that some coupling may prune, in forward order."""
    members = prunable_layers(prunable)
    return [site.name for site in prunable.flow.convs if site.name in members]


def bn_scales(prunable: Prunable) -> Scores:
    """|gamma| of the norm behind each convolution, float64 (N,), by layer; layers without one are left out."""
    found: Scores = {}
    for norm in prunable.flow.norms:
        if norm.after is not None and norm.affine:
            scale = prunable.module.get_submodule(norm.name).get_parameter("weight")
            found[norm.after] = scale.detach().double().abs().cpu().numpy()
    return {name: found[name] for name in _layers(prunable) if name in found}


def taylor_steps(
    prunable: Prunable, images: ImageSet | None = None, device: torch.device = torch.device("cpu")
) -> Iterator[float | Scores]:
    """First-order Taylor scores; yields the share that is done, 0..1, and last (N,) float64 by layer.

    The mean over batches of 32 training images of (dL / dz)^2, where z = 1 multiplies a filter's channel behind its
    norm and L is the batch's cross-entropy (Molchanov et al., CVPR 2019, Eq. 8, gates).
    """
    images = load_images(prunable.loaded.info.dataset, "train") if images is None else images
    images = images.first(min(TAYLOR_IMAGES, len(images))).to(device)
    view = overlay(prunable.module, {}).to(device)
    gates = _gates(prunable, view, device)
    sums = {name: torch.zeros(gate.numel(), dtype=torch.float64, device=device) for name, gate in gates.items()}
    begins = range(0, len(images), TAYLOR_BATCH)
    for begin in begins:
        end = min(begin + TAYLOR_BATCH, len(images))
        with FORWARD, torch.enable_grad():
            loss = F.cross_entropy(view(images.normalised(begin, end)), images.labels[begin:end])
            slopes = torch.autograd.grad(loss, list(gates.values()), allow_unused=True)
        for name, slope in zip(gates, slopes, strict=True):
            if slope is not None:
                sums[name] += slope.double().flatten().square()
        yield end / len(images)
    yield {name: (total / len(begins)).cpu().numpy() for name, total in sums.items()}


def _gates(prunable: Prunable, view: nn.Module, device: torch.device) -> dict[str, Tensor]:
    """Ones that multiply every prunable layer's channels, behind its norm where it has one of its own."""
    behind = {norm.after: norm.name for norm in prunable.flow.norms if norm.after is not None}
    gates, layers = dict[str, Tensor](), set(_layers(prunable))
    for site in prunable.flow.convs:
        if site.name not in layers:
            continue
        owner = view.get_submodule(behind.get(site.name, site.name))
        shape = (site.outputs,) if isinstance(owner, nn.Linear) else (site.outputs, 1, 1)
        gate = torch.ones(shape, device=device, requires_grad=True)
        owner.register_forward_hook(lambda _, __, output, gate=gate: output * gate)
        gates[site.name] = gate
    return gates


def refit_cost_steps(prunable: Prunable, moments: Moments, greedy: bool = False) -> Iterator[float | Scores]:
    """Refit cost of every layer by itself; yields the share that is done, 0..1, and last (N,) float64 by layer.

    With `greedy` the score is the step at which a filter goes, 1 to N, when always the cheapest next one goes.
    Layers whose consumers have no moments, or that nobody reads who could be refitted, are left out.
    """
    layers, found = _layers(prunable), Scores()
    for number, name in enumerate(layers, 1):
        read = readings(prunable, [name])
        if read and all(one.layer in moments.layers for one in read):
            loss = UnitLoss.of(prunable, [name], moments)
            if greedy:
                found[name] = np.empty(loss.size)
                found[name][greedy_order(loss)] = np.arange(1, loss.size + 1)
            else:
                found[name] = loss.costs()
        yield number / len(layers)
    yield found


def _refit_cost(
    greedy: bool, prunable: Prunable, images: ImageSet | None, device: torch.device
) -> Iterator[float | Scores]:
    moments = yield from finished(calibrate_steps(prunable, Calibration(), images, device), 0, 0.5)
    yield (yield from finished(refit_cost_steps(prunable, moments, greedy), 0.5))


_Maker = Callable[[Prunable, ImageSet | None, torch.device], Iterator[float | Scores]]
_MAKERS: Mapping[str, _Maker] = {
    "refit_cost": lambda prunable, images, device: _refit_cost(False, prunable, images, device),
    "refit_cost_greedy": lambda prunable, images, device: _refit_cost(True, prunable, images, device),
    "bn_scale": lambda prunable, images, device: iter([bn_scales(prunable)]),
    "taylor": taylor_steps,
}
