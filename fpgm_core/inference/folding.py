"""Batch norms folded into the convolutions before them."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from fpgm_core.graph import Flow, overlay


def folded_module(module: nn.Module, flow: Flow) -> nn.Module:
    """A view of a network in eval mode with each norm folded into the convolution before it.

    `module` is the dense network, or its masked or compact form. Equal up to rounding, and a pass over
    memory cheaper for every norm.
    """
    view = overlay(module, {})
    there = {name for name, _ in view.named_modules()}
    for norm in flow.batch_norms:
        if norm.after is None or not {norm.name, norm.after} <= there:
            continue
        _fold(view.get_submodule(norm.name), view.get_submodule(norm.after))
        parent, _, leaf = norm.name.rpartition(".")
        view.get_submodule(parent)._modules[leaf] = nn.Identity()
    return view


def _fold(bn: Any, conv: Any) -> None:
    """Put a norm's scale and shift into the convolution that feeds it, a view's own, in place."""
    transposed = isinstance(conv, nn.ConvTranspose2d)
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias, transposed
    )
    conv.weight.requires_grad_(False)
    conv.bias.requires_grad_(False)
