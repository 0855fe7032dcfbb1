"""Layers with weights: convolutions, Linear layers, normalisations."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.fx
from torch import Tensor, nn

from fpgm_core.graph.flow import ALWAYS, NEVER, BatchNormLayer, Known, Value, WeightedLayer, swapped
from fpgm_core.graph.operations.base import Operation, Rebuilt, opaque, shape_of, whole
from fpgm_core.graph.operations.shapes import ReadWhole
from fpgm_core.graph.overlay import overlay

if TYPE_CHECKING:
    from fpgm_core.graph.builder import Builder
    from fpgm_core.graph.rebuilder import Rebuilder


class Weighted(Operation):
    """Base of layers whose filters can leave, and which lose the input channels that are absent."""

    makes_new_memory = True
    reads_spread = True
    reads_unwritten = True

    def rebuild(self, network: Rebuilder, node: torch.fx.Node, value: Value) -> Rebuilt:
        """The layer with the filters that are left, on the channels that are left."""
        name = self.name(node)
        site = network.layers[name]
        rows = np.arange(site.outputs)
        if site.filter_offset >= 0:
            rows = np.flatnonzero(network.carried[site.filter_offset : site.filter_offset + site.outputs])
        read = network.carried[site.reads].any(0) & site.read_channels(network.carried)
        columns, source = network.read(network.operands(node)[0], site, read)
        if source is None or not len(rows):
            return None, rows
        built = self.narrowed(network, node, site, rows, columns)
        if node.op == "call_module" and node.args:  # with what it is told beside the tensor: the size that comes out
            more: Any = torch.fx.node.map_arg((node.args[1:], node.kwargs), network.narrow)
            return network.call_module(name, built, source, *more[0], **more[1]), rows
        return network.call_module(name, built, source), rows

    def name(self, node: torch.fx.Node) -> str:
        """The module that owns the weights."""
        return str(node.target)

    def like(self, network: Rebuilder, node: torch.fx.Node, name: str) -> Any:
        """A module like the one that is narrowed, to be changed."""
        return overlay(network.dense(name), {})  # not the class: it would draw weights first

    def narrowed(
        self, network: Rebuilder, node: torch.fx.Node, site: WeightedLayer, rows: np.ndarray, columns: np.ndarray
    ) -> nn.Module:
        """A new module with these filters (rows) of these input channels (columns)."""
        groups, within = _by_group(site, rows, columns)
        built, like = self.like(network, node, site.name), network.tensor(f"{site.name}.weight")
        weight = swapped(like.detach(), site.groups) if site.transposed else like.detach()
        taken = weight[torch.from_numpy(rows)[:, None], within]
        self.resize(built, len(columns), len(rows), groups)
        built.weight = _parameter(swapped(taken, groups) if site.transposed else taken, like)
        if site.has_bias:
            built.bias = _parameter(network.tensor(f"{site.name}.bias").detach()[torch.from_numpy(rows)], like)
        return built

    def resize(self, layer: Any, inputs: int, outputs: int, groups: int) -> None:
        """Note the new sizes where the module keeps them."""
        layer.in_channels, layer.out_channels, layer.groups = inputs, outputs, groups


def _by_group(site: WeightedLayer, rows: np.ndarray, columns: np.ndarray) -> tuple[int, Tensor]:
    """How many groups are left, and for each filter the places of its input channels in its own group."""
    per_group, height = site.reads.shape[1] // site.groups, site.outputs // site.groups
    left, sizes = np.unique(columns // per_group, return_counts=True)
    assert len(set(sizes)) == 1, f"{site.name}: groups of different size"
    assert np.isin(rows // height, left).all(), f"{site.name}: filters that read nothing"
    within = (columns % per_group).reshape(len(left), -1)[np.searchsorted(left, rows // height)]
    return len(left), torch.from_numpy(within)


def _parameter(tensor: Tensor, like: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.clone(), requires_grad=like.requires_grad)


class Convolution(Weighted):
    """nn.Conv2d, and of one or three dimensions: each filter writes one channel."""

    transposed = False

    def propagate(self, walk: Builder, node: torch.fx.Node, inputs: list[Value]) -> Known:
        """Channels that nobody wrote before: one a filter."""
        conv: Any = walk.modules[str(node.target)]
        if len(inputs) != 1 or len(shape_of(node)) != conv.weight.ndim:
            return None
        return self.wrote(walk, node, str(node.target), inputs[0], conv)

    def wrote(self, walk: Builder, node: torch.fx.Node, name: str, value: Value, conv: Any) -> Known:
        """What a convolution called `name`, of the sizes that `conv` has, makes of a value."""
        unordered = not value.unwritten and (value.dim != 1 or value.spread or value.batch != 0)
        if unordered:
            whole(walk, node, value)
        reads = np.full((1, conv.in_channels), ALWAYS) if unordered or value.unwritten else value.sources
        site = WeightedLayer(
            name, True, conv.out_channels, reads, conv.groups, math.prod(conv.kernel_size),
            self.uses(node), conv.bias is not None, walk.next_filter(name), self.transposed,
        )  # fmt: skip
        first, again = site.filter_offset, walk.ran(name)
        walk.add_site(site)
        filters = np.arange(first, first + site.outputs)
        if site.groups > 1 and not again:
            if unordered:
                walk.fix(filters, f"{name} filters group by group what cannot be followed there")
            _tie_groups(walk, site)
        if shape_of(node)[0] != 1 or len(shape_of(node)) != 4 or self.transposed:
            walk.again.add(name)
        return Value(filters[None], operation=self)

    def uses(self, node: torch.fx.Node) -> int:
        """How often each weight is used for one image: once a position of the output."""
        shape = shape_of(node)
        return shape[0] * math.prod(shape[2:])


class AcrossOrWithin(Convolution):
    """nn.Conv1d: of channels as any convolution; over channels that lie in a row (ECA), it reads them side by side."""

    _across = ReadWhole()

    def propagate(self, walk: Builder, node: torch.fx.Node, inputs: list[Value]) -> Known:
        """As the one or the other, which is what rebuilds it, too."""
        across = len(inputs) == 1 and not inputs[0].unwritten and inputs[0].dim == 2
        return self._across.propagate(walk, node, inputs) if across else super().propagate(walk, node, inputs)


class TransposedConvolution(Convolution):
    """nn.ConvTranspose2d, of one or three dimensions too, whose weight has its input channels first."""

    transposed = True

    def uses(self, node: torch.fx.Node) -> int:
        """Once a position of the input."""
        shape = shape_of(node.all_input_nodes[0])
        return shape[0] * math.prod(shape[2:])


def _tie_groups(walk: Builder, site: WeightedLayer) -> None:
    """A depthwise convolution moves with the layers it filters; other groups must stay of equal size."""
    reads, name, inputs = site.reads, site.name, site.reads.shape[1]
    straight = tuple(range(inputs))
    writers = walk.writers(reads)
    if site.groups == inputs:
        if site.outputs > site.groups:
            walk.blocks[name] = site.groups
        elif all(walk.positions(writer, reads) == straight for writer in writers):
            walk.tied += [(writer, name) for writer in writers]
        else:
            walk.joins.append((name, "it filters, one by one, channels that several layers write", False))
        return
    walk.blocks[name] = math.lcm(walk.blocks.get(name, 1), site.groups)
    direct = len(reads) == 1 and len(writers) == 1 and walk.positions(writers[0], reads) == straight
    direct = direct and int(reads[0, 0]) not in walk.products
    # What a depthwise layer in between reads would leave unevenly: its filters have nothing left to filter.
    if direct and walk.site(writers[0]).groups < walk.site(writers[0]).reads.shape[1]:
        walk.blocks[writers[0]] = math.lcm(walk.blocks.get(writers[0], 1), site.groups)
    else:
        walk.fix(reads, f"it feeds {name}, a grouped convolution whose groups must stay of equal size")


class Linear(Weighted):
    """A layer of features; or, applied at every position, a 1 x 1 convolution over the last dimension."""

    def propagate(self, walk: Builder, node: torch.fx.Node, inputs: list[Value]) -> Known:
        """At every position one channel a filter; of features nobody removes any."""
        if len(inputs) != 1:
            return None
        linear: Any = walk.modules[str(node.target)]
        return self.wrote(walk, node, str(node.target), inputs[0], linear)

    def wrote(self, walk: Builder, node: torch.fx.Node, name: str, value: Value, linear: Any) -> Known:
        """What a Linear layer called `name`, of the sizes that `linear` has, makes of a value."""
        shape, reads, width = shape_of(node), value.sources, linear.out_features
        if not value.unwritten and (value.dim != len(shape) - 1 or value.spread):
            reads = whole(walk, node, value).sources
        if (reads == ALWAYS).all():
            reads = np.full((1, linear.in_features), ALWAYS)
        pointwise = len(shape) > 2
        first = walk.next_filter(name) if pointwise else -1
        rows = math.prod(shape[:-1])  # how many vectors an image brings
        walk.add_site(WeightedLayer(name, pointwise, width, reads, 1, 1, rows, linear.bias is not None, first))
        if shape[0] != 1:
            walk.again.add(name)
        if pointwise and first >= 0:
            return Value(np.arange(first, first + width)[None], len(shape) - 1, self, batch=value.batch)
        return Value(np.full((1, width), ALWAYS), len(shape) - 1, self)

    def resize(self, layer: Any, inputs: int, outputs: int, groups: int) -> None:
        """Note the new sizes."""
        layer.in_features, layer.out_features = inputs, outputs


class BatchNorm(Operation):
    """A normalisation of each channel by itself, with scale and shift: of an absent channel it would make a constant,
    so the masked network's scale and shift are zero there, and the compact one has none."""

    reads_unwritten = True
    folds = True

    def propagate(self, walk: Builder, node: torch.fx.Node, inputs: list[Value]) -> Known:
        """The same channels; of channels of zeros that nobody wrote it makes a constant."""
        name = str(node.target)
        norm: Any = walk.modules[name]
        after = _sole_conv(walk, node) if self.folds and norm.running_mean is not None else None
        learned = norm._parameters.get("weight") is not None  # a frozen one's scale and shift are buffers
        return self.normed(walk, name, inputs, BatchNormLayer(name, np.zeros(0), learned, after))

    def normed(self, walk: Builder, name: str, inputs: list[Value], norm: BatchNormLayer) -> Known:
        """What a norm called `name` makes of a value."""
        if len(inputs) != 1 or inputs[0].dim != 1 or inputs[0].batch != 0 or inputs[0].spread:
            return None
        sources = inputs[0].sources
        sources = np.where((sources == NEVER).all(0), ALWAYS, sources)
        if not walk.norm_ran_before(name, sources):
            walk.batch_norms.append(replace(norm, reads=sources))
        elif name in walk.unlike:
            return None
        return Value(sources, operation=self)

    def rebuild(self, network: Rebuilder, node: torch.fx.Node, value: Value) -> Rebuilt:
        """The norm of the channels that are left."""
        operand = network.operands(node)[0]
        present, live = network.present(operand), network.live(value)
        name = self.name(node)
        # Of padding a norm makes something.
        channels = network.of_every_call(name, present if len(present) == len(live) else live)
        source = network.placed(operand, channels)
        if source is None:
            return None, channels
        return network.call_module(name, narrowed_norm(network, name, torch.from_numpy(channels)), source), channels

    def name(self, node: torch.fx.Node) -> str:
        """The module that owns scale and shift."""
        return str(node.target)


def narrowed_norm(network: Rebuilder, name: str, channels: Tensor) -> nn.Module:
    """A new norm of these channels."""
    dense = network.dense(name)
    built: Any = overlay(dense, {})  # not copy.copy: it would share the hooks
    built.num_features = len(channels)
    for key, parameter in dense._parameters.items():
        if parameter is not None:
            built._parameters[key] = _parameter(network.tensor(f"{name}.{key}").detach()[channels], parameter)
    for key, buffer in dense._buffers.items():
        if buffer is not None and buffer.ndim:
            built._buffers[key] = network.tensor(f"{name}.{key}")[channels]
    return built


def _sole_conv(walk: Builder, node: torch.fx.Node) -> str | None:
    """The convolution whose output a norm alone reads."""
    source = node.all_input_nodes[0]
    known = walk.of(source)
    if source.op != "call_module" or not isinstance(known, Value) or len(source.users) != 1:
        return None
    layer: Any = walk.modules[str(source.target)]
    plane = isinstance(layer, nn.Conv2d) or (isinstance(layer, nn.ConvTranspose2d) and layer.groups == 1)
    return str(source.target) if plane and isinstance(known.operation, Convolution) else None


class UnfollowedNorm(Operation):
    """Statistics over all channels at once, written as a function: refused, with that reason."""

    def propagate(self, walk: Builder, node: torch.fx.Node, inputs: list[Value]) -> Known:
        """What enters stays whole."""
        reason = f"its channels enter {node.name}, whose statistics run over all of them at once; call it as a module"
        return opaque(walk, node, inputs, reason)


class ChannelNorm(BatchNorm):
    """Norms of other dimensions, and instance normalisation, whose statistics are the image's own: never folded."""

    folds = False
