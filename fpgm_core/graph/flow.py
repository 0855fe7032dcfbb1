"""The channel-flow graph: for every tensor of a network, which filters write each of its channels.

One torch.fx trace, read by units, masks, cost and compact networks alike. What an operation does to
channels is its rule, in `operations`; this module holds what the walk in `tracing` finds.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch.fx
from torch import Tensor, nn

ALWAYS = 0  # the source of channels no filter writes but that are never zero: the image, opaque operations
NEVER = -1  # the source of channels that are always zero: padding


@dataclass(frozen=True, eq=False)
class WeightedLayer:
    """One convolution or Linear layer, with what it reads.

    `reads` is (S, C): up to S sources (global filter indices, ALWAYS or NEVER) for each of its C input
    channels or features. `filter_offset` is the global index of its filter 0; -1 where outputs are never pruned.
    A Linear layer applied at every position is a 1 x 1 convolution, and `is_conv`.
    `cost_per_weight` is how often each weight is used for one image: H * W of the output.
    """

    name: str
    is_conv: bool
    outputs: int
    reads: np.ndarray
    groups: int
    kernel: int
    cost_per_weight: int
    has_bias: bool
    filter_offset: int


@dataclass(frozen=True, eq=False)
class Norm:
    """One batch normalisation and the channels it acts on; `reads` as in WeightedLayer.

    `after` is the convolution whose output it alone reads, so that it can be folded into it; None elsewhere.
    """

    name: str
    reads: np.ndarray
    affine: bool
    after: str | None


@dataclass(frozen=True, eq=False)
class Gate:
    """A product in which filters of one layer weigh channels one by one, as in squeeze-and-excite.

    `reads` (S, C) are the channels weighed; `filter_offset` is the global index of the filter that weighs channel 0.
    A filter that weighs an absent channel is not read.
    """

    reads: np.ndarray
    filter_offset: int


@dataclass(frozen=True, eq=False)
class Value:
    """What the trace knows of one tensor.

    `sources` is (S, *block): the channels lie in the len(block) dimensions from `dim` on. `how` names what
    the operation does to channels, for whoever rebuilds the network:
    "keep" (each stays who it is), "same" (so does the whole tensor), "site", "norm", "sum", "cat",
    "flatten", "gate", "gather" (takes channel `index` of the node `base`, NEVER for zeros), "view" (the same,
    but spread over several dimensions, or one of several parts), "opaque".
    `weighs` marks values whose absent channels are not zero: a sigmoid's.
    """

    sources: np.ndarray
    dim: int = 1
    how: str = "keep"
    base: str = ""
    index: np.ndarray | None = None
    weighs: bool = False


@dataclass(frozen=True, eq=False)
class Flow:
    """A network's channel flow: immutable, and independent of weights.

    `graph` is the traced network on the meta device, `values` what is known of each of its nodes by name,
    `constants` the tensors it reads that are neither parameters nor buffers.
    `readers` are sites and gates in forward order. `size` counts the filters of all convolutions, plus one
    for ALWAYS: global indices are below it. `observed` are the global indices that the output, or an
    operation without a rule, reads.
    Reasons, by convolution: `fixed`, why no coupling may prune it; `joined`, which residual sum or
    concatenation fixes it, so that `inner` may not; `follows`, whose channels its filters leave with.
    Pairs of layers: `tied`, a depthwise convolution and a writer of what it reads; `summed`, writers of the
    same channels. `blocks` says of how many equal blocks a layer must keep equally many filters, for a
    grouped convolution's sake. `repeated` modules run more than once. `other_params` counts the parameters
    a forward pass uses outside sites and norms.
    """

    graph: torch.fx.GraphModule
    constants: Mapping[str, Tensor]
    values: Mapping[str, Value]
    sites: tuple[WeightedLayer, ...]
    norms: tuple[Norm, ...]
    readers: tuple[WeightedLayer | Gate, ...]
    size: int
    observed: np.ndarray
    fixed: Mapping[str, str]
    joined: Mapping[str, str]
    follows: Mapping[str, str]
    tied: tuple[tuple[str, str], ...]
    summed: tuple[tuple[str, str], ...]
    blocks: Mapping[str, int]
    repeated: frozenset[str]
    other_params: int

    @property
    def convs(self) -> tuple[WeightedLayer, ...]:
        """The convolutions, in forward order."""
        return tuple(site for site in self.sites if site.is_conv)


def is_in_place(modules: Mapping[str, nn.Module], node: torch.fx.Node) -> bool:
    """Whether an operation changes its first operand: whoever reads that later reads the result."""
    if node.op == "call_module":
        return bool(getattr(modules[str(node.target)], "inplace", False))
    if node.op == "call_method":
        return str(node.target).endswith("_")
    flag = node.kwargs.get("inplace", node.args[1] if len(node.args) > 1 else False)
    return node.target in (operator.iadd, operator.imul) or flag is True
