"""Masked networks: the same shapes, removed channels exactly zero, the dense network untouched."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from fpgm_core.graph.cost import live_sources
from fpgm_core.graph.flow import Flow, WeightedLayer, swapped
from fpgm_core.graph.operations import KeptNorm, as_plain_norm
from fpgm_core.graph.overlay import overlay


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
        weights = _live_weights(site, live)
        keep(f"{site.name}.weight", swapped(weights, site.groups) if site.transposed else weights)
        if site.has_bias and site.filter_offset >= 0:
            keep(f"{site.name}.bias", live[site.filter_offset : site.filter_offset + site.outputs])
    for norm in flow.batch_norms:
        for name in ("weight", "bias", "running_mean"):
            keep(f"{norm.name}.{name}", live[norm.reads].any(0))
    return keeps


def _state(module: nn.Module) -> dict[str, Tensor]:
    named = module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False)
    return {name: tensor for tensors in named for name, tensor in tensors}


def _live_weights(site: WeightedLayer, live: np.ndarray) -> np.ndarray:
    """Which weights connect a live input channel with a live filter, bool (N, C_in / groups)."""
    rows = (
        live[site.filter_offset : site.filter_offset + site.outputs]
        if site.filter_offset >= 0
        else np.ones(site.outputs, dtype=bool)
    )
    columns = np.repeat(live[site.reads].any(0).reshape(site.groups, -1), site.outputs // site.groups, axis=0)
    return rows[:, None] & columns


def masked_module(module: nn.Module, flow: Flow, keep_masks: Mapping[str, np.ndarray]) -> nn.Module:
    """The masked form of a network: an independent view, in the mode of the original.

    Norms whose statistics run over several channels are replaced where channels are absent: they run over the others.
    """
    view, live = overlay(module, masked_tensors(module, flow, keep_masks)), live_sources(flow, keep_masks)
    for norm in flow.joint_norms:
        alive = live[norm.reads].any(0)
        if not alive.all():
            view.set_submodule(norm.name, KeptNorm(as_plain_norm(view.get_submodule(norm.name)), alive))
    return view
