"""Narrow networks: what a masked network computes, with less arithmetic. The form that is measured."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from fpgm_core.pruning.cost import live_sources
from fpgm_core.pruning.flow import ALWAYS, Flow
from fpgm_core.pruning.masking import masked_tensors, overlay

# Vector units work on this many channels at once: a layer of 10 filters costs what one of 16 does.
_LANES = 8


def narrow_module(module: nn.Module, flow: Flow, keep_masks: Mapping[str, np.ndarray]) -> nn.Module:
    """A view of `module` that equals the masked one and is physically narrower where nothing forbids it.

    Channels that no sum, concatenation or grouped convolution fixes are cut away, down to a multiple of
    eight (the rest of them stay as zeros); all others stay as wide as they are, masked.
    """
    live = live_sources(flow, keep_masks)
    tensors = masked_tensors(module, flow, keep_masks)
    state = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))
    free = _free_convs(flow)
    widths = {name: _kept_channels(live[filters]) for name, filters in free.items()}

    def cut(name: str, channels: np.ndarray, dimension: int) -> None:
        tensor = tensors.get(name, state.get(name))
        if tensor is not None:
            tensors[name] = tensor.detach().index_select(dimension, torch.from_numpy(channels).to(tensor.device))

    for site in flow.sites:
        writer = _writer(flow, site.reads)
        if writer in widths:
            repeats = site.reads.shape[1] // len(free[writer])  # flattened: H * W features a channel
            features = widths[writer][:, None] * repeats + np.arange(repeats)
            cut(f"{site.name}.weight", features.ravel(), 1)
        if site.first >= 0 and site.name in widths:
            cut(f"{site.name}.weight", widths[site.name], 0)
            cut(f"{site.name}.bias", widths[site.name], 0)
    for norm in flow.norms:
        writer = _writer(flow, norm.reads)
        if writer in widths:
            for name in ("weight", "bias", "running_mean", "running_var"):
                cut(f"{norm.name}.{name}", widths[writer], 0)
    return overlay(module, tensors)


def _kept_channels(live: np.ndarray) -> np.ndarray:
    """The live channels, with as many dead ones as fill the last vector; never none."""
    wanted = min(len(live), -(-max(1, int(live.sum())) // _LANES) * _LANES)
    order = np.argsort(~live, kind="stable")  # the live ones first
    return np.sort(order[:wanted])


def folded_module(module: nn.Module, flow: Flow) -> nn.Module:
    """A view of a network in eval mode with each norm folded into the convolution before it.

    `module` is the dense network or a view of it (masked or narrow). Equal up to rounding, and a pass
    over memory cheaper for every norm.
    """
    view = overlay(module, {})
    for norm in flow.norms:
        if norm.after is None:
            continue
        bn, conv = view.get_submodule(norm.name), view.get_submodule(norm.after)
        assert isinstance(bn, nn.BatchNorm2d)
        assert isinstance(conv, nn.Conv2d)
        _fold(bn, conv)
        parent, _, leaf = norm.name.rpartition(".")
        view.get_submodule(parent)._modules[leaf] = nn.Identity()
    return view


def _fold(bn: nn.BatchNorm2d, conv: nn.Conv2d) -> None:
    """Put a norm's scale and shift into the convolution that feeds it, a view's own, in place."""
    assert bn.running_mean is not None
    assert bn.running_var is not None
    scale = (bn.running_var + bn.eps).rsqrt() * (1 if bn.weight is None else bn.weight)
    shift = -bn.running_mean * scale + (0 if bn.bias is None else bn.bias)
    bias = shift if conv.bias is None else shift + conv.bias * scale
    conv.weight = nn.Parameter(conv.weight * scale[:, None, None, None], requires_grad=False)
    conv.bias = nn.Parameter(bias, requires_grad=False)


def _free_convs(flow: Flow) -> dict[str, np.ndarray]:
    """Convolutions whose output may simply be narrower, with their global filter indices (N,)."""
    grouped = {_writer(flow, site.reads) for site in flow.sites if site.groups > 1}
    held = {*flow.joined, *flow.fixed, *grouped}
    return {
        site.name: np.arange(site.first, site.first + site.outputs)
        for site in flow.convs
        if site.first >= 0 and site.groups == 1 and site.name not in held
    }


def _writer(flow: Flow, reads: np.ndarray) -> str | None:
    """The convolution that alone writes everything `reads` names; None where there are several, or none."""
    sources = np.unique(reads)
    if sources[0] <= ALWAYS:
        return None
    site = next(site for site in flow.convs if site.first <= sources[0] < site.first + site.outputs)
    return site.name if sources[-1] < site.first + site.outputs else None
