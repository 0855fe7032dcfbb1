"""The convolutions of a network as people see them: name, shape, cost."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fpgm_core.runtime.locks import FORWARD_LOCK


@dataclass(frozen=True)
class Layer:
    """One convolution that a forward pass runs, in forward order.

    A Linear layer applied at every position is a 1 x 1 convolution, and listed as one.
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
    weight = module.get_submodule(layer).get_parameter("weight")
    return weight if weight.ndim == 4 else weight[:, :, None, None]


def dense_layers(module: nn.Module, input_shape: tuple[int, int, int], device: str = "meta") -> tuple[Layer, ...]:
    """Every convolution that one forward pass runs, in forward order.

    `input_shape` is (channels, height, width). The pass runs on `device`: "meta" costs neither time nor memory worth
    naming, but its first use in a process imports two seconds' worth of torch; "cpu" is quicker for small networks.
    A convolution that runs twice appears once, with the MACs of both.
    """
    shadow = copy.deepcopy(module).to(device).eval()
    found: dict[str, tuple[tuple[int, ...], int, int, int]] = {}
    linear_macs = 0

    def note(name: str, layer: nn.Module) -> None:
        def hook(_: nn.Module, __: Any, output: Tensor) -> None:
            nonlocal linear_macs
            weight = layer.get_parameter("weight")
            positions = output.numel() // weight.shape[0]  # of the one image
            if isinstance(layer, nn.Linear) and output.ndim == 2:
                linear_macs += output.numel() * layer.in_features
                return
            before = found.get(name, ((), 0, positions, 0))
            shape = tuple(weight.shape) + (1,) * (4 - weight.ndim)
            groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
            found[name] = (shape, groups, before[2], before[3] + positions * weight.numel())

        layer.register_forward_hook(hook)

    for name, layer in shadow.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            note(name, layer)
    with FORWARD_LOCK, torch.no_grad():
        shadow(torch.zeros(1, *input_shape, device=device))
    total = linear_macs + sum(macs for *_, macs in found.values())
    return tuple(
        Layer(name, shape, groups, positions, macs, macs / total)
        for name, (shape, groups, positions, macs) in found.items()
    )
