"""Torch-Pruning on the same network: how much it prunes, and whether its network computes what it should."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import torch
from torch import nn

from fpgm_core.graph.operations import KeptNorm, as_plain_norm
from fpgm_core.pruning.proof import counted_macs, tensors_in
from fpgm_core.runtime.extras import require
from fpgm_core.runtime.limits import time_limit
from fpgm_core.runtime.torchvision_import import import_torchvision

_ALIKE = 1e-3  # of the largest number in the dense network's answer
_IMAGES = 4
_SECONDS = 150.0  # it does not come to an end on every network
_NORMS = nn.modules.batchnorm._BatchNorm


def beside_torch_pruning(
    module: nn.Module, shape: tuple[int, int, int], traced_at: tuple[int, int, int], rate: float
) -> tuple[float | None, str]:
    """The share of multiply-adds of images of `shape` that it prunes at a rate of everywhere, and what comes out.

    That is "equal" where its network computes what the dense one does with the removed filters, and their norms, set to
    zero, layer and group norms running over what is left; else how far it is from that, or what it raised. `traced_at`
    is the shape of images that it is traced with.
    """
    peer: Any = copy.deepcopy(module)
    dense = copy.deepcopy(module)
    images = torch.randn(_IMAGES, *traced_at, generator=torch.Generator().manual_seed(0))
    try:
        with warnings.catch_warnings(), time_limit(_SECONDS, TimeoutError):
            warnings.simplefilter("ignore")
            removed = _pruned(peer, images[:1], rate)
        with torch.inference_mode():
            before = tensors_in(dense(images))
            _silence(dense, removed)
            pairs = zip(tensors_in(peer(images)), tensors_in(dense(images)), before, strict=True)
            worst = max(float((a - b).abs().max() / c.abs().max()) for a, b, c in pairs)
        cut = round(1 - counted_macs(peer, shape) / counted_macs(module, shape), 4)
    except Exception as error:  # whatever it raises is the finding
        return None, f"{type(error).__name__}: {str(error).splitlines()[0][:80] if str(error) else ''}"
    if not cut:
        return cut, "prunes nothing"
    return cut, "equal" if worst <= _ALIKE else f"differs by {worst:.2g}"


def _pruned(peer: Any, image: torch.Tensor, rate: float) -> dict[str, set[int]]:
    """Prune in place; which filters and norms' channels left each layer."""
    import_torchvision("torchvision.models")  # which it imports
    tp: Any = require("torch_pruning", extra="test")
    for parameter in peer.parameters():
        parameter.requires_grad_(True)
    with torch.inference_mode():
        widths = {tensor.shape[1] for tensor in tensors_in(peer(image)) if tensor.ndim > 1}
    outputs = [m for m in peer.modules() if getattr(m, "out_features", getattr(m, "out_channels", None)) in widths]
    importance = tp.importance.MagnitudeImportance(p=2)
    pruner = tp.pruner.BasePruner(peer, image, importance=importance, pruning_ratio=rate, ignored_layers=outputs)
    names, left = {m: name for name, m in peer.named_modules()}, dict[str, list[int]]()
    removed: dict[str, set[int]] = {}
    for group in pruner.step(interactive=True):
        now: dict[str, set[int]] = {}
        for dependency, indices in group:
            layer, how = dependency.target.module, dependency.handler.__name__
            if layer in names and "out" in how:
                left.setdefault(names[layer], list(range(_width(layer))))
                now.setdefault(names[layer], set()).update(map(int, indices))
        for name, gone in now.items():  # its indices are those of what the groups before have left
            removed.setdefault(name, set()).update(left[name][i] for i in gone)
            left[name] = [index for i, index in enumerate(left[name]) if i not in gone]
        group.prune()
    return removed


def _width(layer: Any) -> int:
    """How many filters or channels a layer has."""
    weight = layer.weight if getattr(layer, "weight", None) is not None else layer.running_mean
    return int(weight.shape[1] if isinstance(layer, nn.ConvTranspose2d) else weight.shape[0])


def _silence(dense: nn.Module, removed: dict[str, set[int]]) -> None:
    for name, indices in removed.items():
        layer: Any = dense.get_submodule(name)
        gone, plain = sorted(indices), as_plain_norm(layer)
        if isinstance(plain, (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)):
            keep = np.ones(len(layer.weight), dtype=bool)
            keep[gone] = False
            dense.set_submodule(name, KeptNorm(plain, keep))
            continue
        if not isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, _NORMS)):
            continue
        weight = layer.weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else layer.weight
        weight.data[gone] = 0
        for tensor in (layer.bias, getattr(layer, "running_mean", None)):
            if tensor is not None:
                tensor.data[gone] = 0
