"""Masked networks: the same shapes, removed channels exactly zero, the dense network untouched."""

from __future__ import annotations

import copy
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
    view = seen[module] = copy.copy(module)
    view.__dict__.update({name: hooks.copy() for name, hooks in vars(module).items() if name.endswith("_hooks")})
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

    A removed filter's weights and bias are zero, so are the norms that act on its channel (scale, shift
    and running mean: a norm would otherwise emit a constant), and the weights with which consumers read
    a channel that no kept filter writes.
    """
    live = live_sources(flow, keep_masks)
    state = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))
    changed: dict[str, Tensor] = {}
    for site in flow.sites:
        weight = _mask_weight(site, state[f"{site.name}.weight"], live)
        if weight is not None:
            changed[f"{site.name}.weight"] = weight
        if site.has_bias and site.first >= 0:
            _zero(changed, state, f"{site.name}.bias", ~live[site.first : site.first + site.outputs])
    for norm in flow.norms:
        dead = ~live[norm.reads].any(0)
        for name in ("weight", "bias", "running_mean"):
            _zero(changed, state, f"{norm.name}.{name}", dead)
    return changed


def _mask_weight(site: Site, weight: Tensor, live: np.ndarray) -> Tensor | None:
    rows = live[site.first : site.first + site.outputs] if site.first >= 0 else np.ones(site.outputs, dtype=bool)
    inputs = live[site.reads].any(0)
    if rows.all() and inputs.all():
        return None
    columns = np.repeat(inputs.reshape(site.groups, -1), site.outputs // site.groups, axis=0)
    alive = torch.from_numpy(rows[:, None] & columns).to(weight.device)
    return weight.detach() * alive.reshape(*alive.shape, *(1,) * (weight.ndim - 2))


def _zero(changed: dict[str, Tensor], state: Mapping[str, Tensor], name: str, dead: np.ndarray) -> None:
    tensor = state.get(name)
    if tensor is not None and dead.any():
        changed[name] = tensor.detach() * torch.from_numpy(~dead).to(tensor.device)


def masked_module(module: nn.Module, flow: Flow, keep_masks: Mapping[str, np.ndarray]) -> nn.Module:
    """The masked form of a network: an independent view, in the mode of the original."""
    return overlay(module, masked_tensors(module, flow, keep_masks))
