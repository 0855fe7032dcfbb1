"""The channel-flow graph: for every tensor of a network, which filters write each of its channels.

One torch.fx trace, read by units, masks, cost and compact networks alike. What an operation does to
channels is its class, in `operations`; this module holds what the walk in `tracing` finds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch.fx
from torch import Tensor

if TYPE_CHECKING:
    from fpgm_core.graph.operations.base import Operation

ALWAYS = 0  # the source of channels no filter writes but that are never zero: the image, opaque operations
NEVER = -1  # the source of channels that are always zero: padding


def swapped(weights: Any, groups: int) -> Any:
    """Weights (A, B / groups, ...) as (B, A / groups, ...): filters first, or input channels first, group by group.

    A transposed convolution keeps its input channels first. Its own inverse; of a tensor or an array.
    """
    rows, columns, *kernel = weights.shape
    parts = weights.reshape(groups, rows // groups, columns, *kernel).swapaxes(1, 2)
    return parts.reshape(groups * columns, rows // groups, *kernel)


@dataclass(frozen=True, eq=False)
class WeightedLayer:
    """One convolution or Linear layer, with what it reads.

    `reads` is (S, C): up to S sources (global filter indices, ALWAYS or NEVER) for each of its C input
    channels or features. `filter_offset` is the global index of its filter 0; -1 where outputs are never pruned.
    A Linear layer applied at every position is a 1 x 1 convolution, and `is_conv`.
    `cost_per_weight` is how often each weight is used for one image: H * W of the output, times the rows that come of
    one image; of a `transposed` convolution, whose weight is (C, N / groups, kH, kW), of the input.
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
    transposed: bool = False

    @property
    def dense_macs(self) -> int:
        """The multiply-adds of one image where nothing is pruned."""
        return self.outputs * self.reads.shape[1] // self.groups * self.kernel * self.cost_per_weight

    def read_channels(self, live: np.ndarray) -> np.ndarray:
        """The input channels that some live filter of this layer reads, bool (C,); `live` is by source."""
        if self.filter_offset < 0:
            return np.ones(self.reads.shape[1], dtype=bool)
        groups = live[self.filter_offset : self.filter_offset + self.outputs].reshape(self.groups, -1).any(1)
        return np.repeat(groups, self.reads.shape[1] // self.groups)


@dataclass(frozen=True, eq=False)
class BatchNormLayer:
    """One batch normalisation and the channels it acts on; `reads` as in WeightedLayer.

    `after` is the convolution whose output it alone reads, so that it can be folded into it; None elsewhere.
    """

    name: str
    reads: np.ndarray
    affine: bool
    after: str | None


@dataclass(frozen=True, eq=False)
class ChannelTensor:
    """A parameter with `size` entries for each of the channels it acts on, in dimension `dim`; `reads` as above."""

    name: str
    reads: np.ndarray
    dim: int
    size: int


@dataclass(frozen=True, eq=False)
class Gate:
    """A product in which filters weigh channels one by one, as in squeeze-and-excite.

    `reads` (S, C) are the channels weighed, `weights` (R, C) the filters that weigh each of them, NEVER where there are
    fewer: the branches of a softmax, say. A filter that weighs an absent channel is not read.
    """

    reads: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True, eq=False)
class JointNorm:
    """A norm called `name` whose statistics run over all the channels of `reads`, (S, C): layer, group, RMS norm.

    It reads every one that is kept, whoever reads what it makes of them.
    """

    name: str
    reads: np.ndarray


@dataclass(frozen=True, eq=False)
class Product:
    """A product of streams: channel c is absent where it is absent from one of them.

    `reads` holds the operands' sources, (S, C) each. What the product makes has sources of its own, from
    `filter_offset` on, as if a layer wrote it.
    """

    reads: tuple[np.ndarray, ...]
    filter_offset: int


@dataclass(frozen=True, eq=False)
class Value:
    """What the trace knows of one tensor.

    `sources` is (S, *block): the channels lie in the len(block) dimensions from `dim` on, images in dimension `batch`.
    `operation` made the tensor and knows how to rebuild it; None where removal does not follow it: every channel is
    there. Where `index` is given, the tensor takes channel `index` of the node `base`, NEVER for zeros.
    `weighs` marks values whose absent channels are not zero: a sigmoid's.
    """

    sources: np.ndarray
    dim: int = 1
    operation: Operation | None = None
    base: str = ""
    index: np.ndarray | None = None
    weighs: bool = False
    batch: int = 0

    @property
    def channels(self) -> int:
        """How many channels there are in dimension `dim`."""
        return int(self.sources.shape[1])

    @property
    def spread(self) -> bool:
        """Whether the channels lie over several dimensions."""
        return self.sources.ndim > 2

    @property
    def unwritten(self) -> bool:
        """Whether no filter writes any channel, and all are there: an image, a parameter, an opaque result."""
        return bool((self.sources == ALWAYS).all())


Known = Value | tuple[Value, ...] | None  # several values for an operation with several results; None for numbers


@dataclass(frozen=True, eq=False)
class Flow:
    """A network's channel flow: immutable, and independent of weights.

    `graph` is the traced network on the meta device, `values` what is known of each of its nodes by name (a tuple for
    an operation with several results), `constants` the tensors it reads that are neither parameters nor buffers.
    `readers` are sites, gates, products and joint norms in forward order. `size` counts the filters of all
    convolutions, plus one for ALWAYS: global indices are below it. `observed` are the global indices that the output,
    or an operation without a rule, reads.
    Reasons, by convolution: `fixed`, why no coupling may prune it; `joined`, which residual sum or
    concatenation fixes it, so that `inner` may not; `follows`, whose channels its filters leave with; `together`,
    why it must move with others, so that `independent` may not prune it. `copies` says of how many equal parts of a
    layer's filters the same ones must leave: a gate and what it weighs, say, in one layer.
    Pairs of layers: `tied`, a depthwise convolution and a writer of what it reads; `summed`, writers of the
    same channels. `blocks` says of how many equal blocks a layer must keep equally many filters, for a
    grouped convolution's sake. `repeated` layers cannot be refitted one by one: they run more than once, on more rows
    than images, or are no plain convolution or Linear module. `other_params` counts the parameters a forward pass uses
    outside sites, norms and channel tensors, `other_macs` the multiply-adds of one image outside sites, by node; those
    of nodes in `by_channel` are the same for each of the channels that they read, (S, C), and leave with them.
    """

    graph: torch.fx.GraphModule
    constants: Mapping[str, Tensor]
    values: Mapping[str, Known]
    sites: tuple[WeightedLayer, ...]
    batch_norms: tuple[BatchNormLayer, ...]
    channel_tensors: tuple[ChannelTensor, ...]
    readers: tuple[WeightedLayer | Gate | Product | JointNorm, ...]
    size: int
    observed: np.ndarray
    fixed: Mapping[str, str]
    joined: Mapping[str, str]
    follows: Mapping[str, str]
    together: Mapping[str, str]
    tied: tuple[tuple[str, str], ...]
    summed: tuple[tuple[str, str], ...]
    blocks: Mapping[str, int]
    copies: Mapping[str, int]
    repeated: frozenset[str]
    other_params: int
    other_macs: Mapping[str, int]
    by_channel: Mapping[str, np.ndarray]

    @property
    def joint_norms(self) -> tuple[JointNorm, ...]:
        """The norms whose statistics run over several channels, in forward order."""
        return tuple(reader for reader in self.readers if isinstance(reader, JointNorm))

    @property
    def convs(self) -> tuple[WeightedLayer, ...]:
        """The convolutions, in forward order."""
        return tuple(site for site in self.sites if site.is_conv)
