"""Masked networks: the same shapes, removed channels exactly zero, the dense network untouched."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from fpgm_core.pruning.cost import live_sources
from fpgm_core.pruning.flow import Flow, Site


def overlay(module: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """A view of `module` in which the named parameters and buffers are replaced.

    Every submodule object is new, every tensor not named is shared, and norm buffers are copied, so the
    view can be moved, switched to training mode or recalibrated without touching the original.
    """
    return _overlay(module, tensors, "", {})


def _overlay(
    module: nn.Module, tensors: Mapping[str, Tensor], prefix: str, seen: dict[nn.Module, nn.Module]
) -> nn.Module:
    if module in seen:  # one module under two names, of which torch.fx uses the first
        return seen[module]
    # Not copy.copy: it writes, and compiles, a traced module's code anew.
    view = seen[module] = object.__new__(type(module))
    view.__dict__.update({name: v.copy() if name.endswith("_hooks") else v for name, v in vars(module).items()})
    view.__dict__["_parameters"] = {
        # A new Parameter even where the tensor is shared: Module.to() rewrites Parameter.data in place.
        name: None if p is None else nn.Parameter(tensors.get(prefix + name, p.detach()), requires_grad=False)
        for name, p in module._parameters.items()
    }
    view.__dict__["_buffers"] = {
        name: None if b is None else tensors.get(prefix + name, b).clone() for name, b in module._buffers.items()
    }
    view.__dict__["_modules"] = {
        name: None if child is None else _overlay(child, tensors, f"{prefix}{name}.", seen)
        for name, child in module._modules.items()
    }
    return view


def masked_tensors(module: nn.Module, flow: Flow, keep_masks: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """The parameters and buffers that differ from the dense network's where removed filters are absent.

    Shapes stay; see `keep_tensors` for what is zero.
    """
    state = _state(module)
    return {name: state[name].detach() * keep for name, keep in keep_tensors(module, flow, keep_masks).items()}


def keep_tensors(module: nn.Module, flow: Flow, keep_masks: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Which entries of parameters and buffers a plan keeps: bool, by name; those kept whole are left out.

    A removed filter's weights and bias are zero, so are the norms that act on its channel (scale, shift
    and running mean: a norm would otherwise emit a constant), and the weights with which consumers read
    a channel that no kept filter writes.
    """
    live = live_sources(flow, keep_masks)
    state = _state(module)
    keeps: dict[str, Tensor] = {}

    def keep(name: str, alive: np.ndarray) -> None:
        if name in state and not alive.all():
            flags = torch.from_numpy(alive).to(state[name].device)
            keeps[name] = flags.reshape(*flags.shape, *(1,) * (state[name].ndim - flags.ndim))

    for site in flow.sites:
        keep(f"{site.name}.weight", _live_weights(site, live))
        if site.has_bias and site.first >= 0:
            keep(f"{site.name}.bias", live[site.first : site.first + site.outputs])
    for norm in flow.norms:
        for name in ("weight", "bias", "running_mean"):
            keep(f"{norm.name}.{name}", live[norm.reads].any(0))
    return keeps


def _state(module: nn.Module) -> dict[str, Tensor]:
    named = module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False)
    return {name: tensor for tensors in named for name, tensor in tensors}


def _live_weights(site: Site, live: np.ndarray) -> np.ndarray:
    """Which weights connect a live input channel with a live filter, bool (N, C_in / groups)."""
    rows = live[site.first : site.first + site.outputs] if site.first >= 0 else np.ones(site.outputs, dtype=bool)
    columns = np.repeat(live[site.reads].any(0).reshape(site.groups, -1), site.outputs // site.groups, axis=0)
    return rows[:, None] & columns


def masked_module(module: nn.Module, flow: Flow, keep_masks: Mapping[str, np.ndarray]) -> nn.Module:
    """The masked form of a network: an independent view, in the mode of the original."""
    return overlay(module, masked_tensors(module, flow, keep_masks))
