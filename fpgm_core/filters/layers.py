"""The convolutions of a network as people see them: name, shape, cost."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fpgm_core.forward_lock import FORWARD


@dataclass(frozen=True)
class Layer:
    """One convolution that a forward pass runs, in forward order.

    `shape` is the weight's (N, C_in / groups, kH, kW); `positions` the output's H * W; `macs` the
    dense multiply-adds of one image (no bias); `share` those over all of the network's.
    """

    name: str
    shape: tuple[int, ...]
    groups: int
    positions: int
    macs: int
    share: float

    @property
    def filters(self) -> int:
        """N, the number of filters."""
        return self.shape[0]


def weights_of(module: nn.Module, layer: str) -> Tensor:
    """The filters of the convolution called `layer`, shape (N, C_in / groups, kH, kW)."""
    return module.get_submodule(layer).get_parameter("weight")


def dense_layers(module: nn.Module, input_shape: tuple[int, int, int]) -> tuple[Layer, ...]:
    """Every convolution that one forward pass runs, in forward order.

    `input_shape` is (channels, height, width). Runs on the meta device, so costs neither time nor memory
    worth naming. A convolution that runs twice appears once, with the MACs of both.
    """
    shadow = copy.deepcopy(module).to("meta").eval()
    found: dict[str, tuple[nn.Conv2d, int, int]] = {}
    linear_macs = 0

    def note(name: str, layer: nn.Module) -> None:
        def hook(_: nn.Module, __: Any, output: Tensor) -> None:
            nonlocal linear_macs
            if isinstance(layer, nn.Conv2d):
                positions = output.shape[-2] * output.shape[-1]
                before = found.get(name, (layer, positions, 0))[2]
                found[name] = (layer, positions, before + positions * layer.weight.numel())
            elif isinstance(layer, nn.Linear):
                linear_macs += output.numel() * layer.in_features

        layer.register_forward_hook(hook)

    for name, layer in shadow.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            note(name, layer)
    with FORWARD, torch.no_grad():
        shadow(torch.empty(1, *input_shape, device="meta"))
    total = linear_macs + sum(macs for _, _, macs in found.values())
    return tuple(
        Layer(name, tuple(conv.weight.shape), conv.groups, positions, macs, macs / total)
        for name, (conv, positions, macs) in found.items()
    )
