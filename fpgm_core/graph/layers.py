"""The convolutions of a network as people see them: name, shape, cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from fpgm_core.graph.flow import Flow, swapped
from fpgm_core.graph.tracing import trace_flow


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
    """The filters of the convolution called `layer`, shape (N, C_in / groups, kH, kW).

    kH is 1 for a kernel of fewer dimensions, and holds depth and height of one of three.
    """
    owner = module.get_submodule(layer)
    weight = owner.get_parameter("weight")
    if isinstance(owner, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        weight = swapped(weight, owner.groups)
    if weight.ndim == 4:
        return weight
    *rows, last = weight.shape[2:] or (1,)
    return weight.reshape(*weight.shape[:2], math.prod(rows), last)


def layers_of(flow: Flow) -> tuple[Layer, ...]:
    """Every convolution of a traced network, in forward order; one that runs twice once, with the MACs of both."""
    macs: dict[str, int] = {}
    for site in flow.sites:
        macs[site.name] = macs.get(site.name, 0) + site.dense_macs
    total = sum(macs.values()) + sum(flow.other_macs.values())
    first = {site.name: site for site in reversed(flow.convs)}
    return tuple(
        Layer(
            name,
            tuple(weights_of(flow.graph, name).shape),
            first[name].groups,
            first[name].cost_per_weight,
            macs[name],
            macs[name] / total,
        )
        for name in dict.fromkeys(site.name for site in flow.convs)
    )


def dense_layers(module: nn.Module, input_shape: tuple[int, int, int], device: str = "meta") -> tuple[Layer, ...]:
    """Every convolution that a forward pass on one image runs; arguments and errors as of `trace_flow`."""
    return layers_of(trace_flow(module, input_shape, device))
