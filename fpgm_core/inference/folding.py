"""Batch norms folded into the convolutions before them."""

from __future__ import annotations

from torch import nn

from fpgm_core.graph import Flow, overlay


def folded_module(module: nn.Module, flow: Flow) -> nn.Module:
    """A view of a network in eval mode with each norm folded into the convolution before it.

    `module` is the dense network, or its masked or compact form. Equal up to rounding, and a pass over
    memory cheaper for every norm.
    """
    view = overlay(module, {})
    there = {name for name, _ in view.named_modules()}
    for norm in flow.norms:
        if norm.after is None or not {norm.name, norm.after} <= there:
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
