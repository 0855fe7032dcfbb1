"""Layers written as functions of parameters that a module owns: F.conv2d(x, self.weight, self.bias, ...)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.fx
from torch import nn
from torch.nn import functional as F

from fpgm_core.graph.flow import BatchNormLayer, Known, Value
from fpgm_core.graph.operations.base import Operation, Rebuilt, argument, shape_of
from fpgm_core.graph.operations.layers import BatchNorm, Convolution, Linear, narrowed_norm

if TYPE_CHECKING:
    from fpgm_core.graph.builder import Builder
    from fpgm_core.graph.rebuilder import Rebuilder

Node = torch.fx.Node


def owner_of(walk: Builder, given: dict[str, Any]) -> str | None:
    """The module that owns these tensors under these names, and whose they are alone; None where there is none."""
    names: dict[str, bool] = {}
    for name, node in given.items():
        if node is None:
            continue
        if not isinstance(node, Node) or node.op != "get_attr" or walk.reads_of(str(node.target)) != 1:
            return None
        owner, _, leaf = str(node.target).rpartition(".")
        names[owner] = leaf == name and names.get(owner, True)
    (owner,) = names if len(names) == 1 else ("",)
    called = any(n.op == "call_module" and n.target == owner for n in walk.graph.graph.nodes)
    return owner if owner and names[owner] and not called and owner in walk.modules else None


@dataclass(frozen=True)
class _Sizes:
    """A convolution's or Linear layer's sizes, read off its weight (N, C / groups, ...)."""

    weight: Any
    bias: Any
    groups: int = 1

    @property
    def out_channels(self) -> int:
        return shape_of(self.weight)[0]

    @property
    def in_channels(self) -> int:
        return shape_of(self.weight)[1] * self.groups

    @property
    def kernel_size(self) -> tuple[int, ...]:
        return shape_of(self.weight)[2:]

    out_features, in_features = out_channels, in_channels


class FunctionalConvolution(Convolution):
    """F.conv2d with a module's own weight and bias."""

    makes_new_memory = True

    def propagate(self, walk: Builder, node: Node, inputs: list[Value]) -> Known:
        """As a convolution does, where the weight is a parameter as it is."""
        given = {"weight": argument(node, 1, "weight"), "bias": argument(node, 2, "bias")}
        name, groups = owner_of(walk, given), walk.with_numbers(argument(node, 6, "groups", 1))
        if not isinstance(groups, int) or len(shape_of(node)) != 4:
            return None
        if name is None:
            return self._blurred(walk, node, inputs, groups)
        walk.again.add(name)
        walk.functional.add(name)
        value = walk.of(node.all_input_nodes[0])
        assert isinstance(value, Value)
        return self.wrote(walk, node, name, value, _Sizes(**given, groups=groups))

    def _blurred(self, walk: Builder, node: Node, inputs: list[Value], groups: int) -> Known:
        """Each channel by itself with a kernel that is no layer's: channels stay who they are."""
        weight, value = argument(node, 1, "weight"), inputs[0]
        alone = isinstance(weight, Node) and isinstance(kernel := walk.of(weight), Value) and kernel.unwritten
        straight = value.dim == 1 and value.batch == 0 and not value.spread and not value.unwritten
        if not alone or not straight or argument(node, 2, "bias") is not None:
            return None
        if shape_of(weight)[0] != groups or groups != value.channels or groups in (0, 1):
            return None
        walk.by_channel[node.name] = value.sources
        return Value(value.sources, operation=_BLUR)

    def name(self, node: Node) -> str:
        """The weight's owner."""
        return str(argument(node, 1, "weight").target).rpartition(".")[0]

    def like(self, network: Rebuilder, node: Node, name: str) -> Any:
        """An ordinary module with the function's arguments."""
        names = ("stride", "padding", "dilation")
        more = {
            key: argument(node, i, key, default) for i, key, default in zip((3, 4, 5), names, (1, 0, 1), strict=True)
        }
        weight: Any = network.tensor(f"{name}.weight")
        return nn.Conv2d(1, 1, tuple(weight.shape[2:]), bias=False, device=weight.device, **more)


class Blur(Operation):
    """F.conv2d of each channel by itself, with a kernel that is no layer's."""

    makes_new_memory = True

    def rebuild(self, network: Rebuilder, node: Node, value: Value) -> Rebuilt:
        """The same call with the kernels of the channels that are left."""
        source, weight = network.operands(node)[0], argument(node, 1, "weight")
        made, present = network.made(source), network.present(source)
        if made is None or not len(present):
            return None, present
        everything = np.arange(value.channels)
        kernels = network.place(network.whole(weight), everything, present, 0, len(shape_of(weight)))
        settings = [argument(node, at, name, default) for at, name, default in _SETTINGS]
        assert kernels is not None
        return network.call(F.conv2d, made, kernels, None, *settings, len(present)), present


_BLUR = Blur()
_SETTINGS = ((3, "stride", 1), (4, "padding", 0), (5, "dilation", 1))


class FunctionalLinear(Linear):
    """F.linear with a module's own weight and bias."""

    def propagate(self, walk: Builder, node: Node, inputs: list[Value]) -> Known:
        """As a Linear layer does, where the weight is a parameter as it is."""
        given = {"weight": argument(node, 1, "weight"), "bias": argument(node, 2, "bias")}
        name = owner_of(walk, given)
        value = walk.of(node.all_input_nodes[0])
        if name is None or not isinstance(value, Value):
            return None
        walk.again.add(name)
        walk.functional.add(name)
        return self.wrote(walk, node, name, value, _Sizes(**given))

    def name(self, node: Node) -> str:
        """The weight's owner."""
        return str(argument(node, 1, "weight").target).rpartition(".")[0]

    def like(self, network: Rebuilder, node: Node, name: str) -> Any:
        """An ordinary module."""
        return nn.Linear(1, 1, bias=False, device=network.tensor(f"{name}.weight").device)


class FunctionalBatchNorm(BatchNorm):
    """F.batch_norm with a module's own statistics, scale and shift, in eval mode."""

    def propagate(self, walk: Builder, node: Node, inputs: list[Value]) -> Known:
        """As a batch norm does."""
        names = ("running_mean", "running_var", "weight", "bias")
        given = {name: argument(node, i + 1, name) for i, name in enumerate(names)}
        name = owner_of(walk, given)
        if name is None or argument(node, 5, "training", False) is not False or given["running_mean"] is None:
            return None
        walk.functional.add(name)
        value, affine = walk.of(node.all_input_nodes[0]), given["weight"] is not None
        assert isinstance(value, Value)
        return self.normed(walk, name, [value], BatchNormLayer(name, np.zeros(0), affine, None))

    def name(self, node: Node) -> str:
        """The statistics' owner."""
        return str(argument(node, 1, "running_mean").target).rpartition(".")[0]

    def rebuild(self, network: Rebuilder, node: Node, value: Value) -> Rebuilt:
        """An ordinary norm of the channels that are left."""
        made, channels = super().rebuild(network, node, value)
        if made is not None:
            name, plain = self.name(node), nn.BatchNorm2d(1, eps=argument(node, 7, "eps", 1e-5))
            narrow = narrowed_norm(network, name, torch.from_numpy(channels))
            plain.num_features = len(channels)
            plain._parameters = {key: narrow._parameters.get(key) for key in ("weight", "bias")}
            plain.affine = plain.weight is not None
            plain._buffers.update({key: b for key, b in narrow._buffers.items() if key in plain._buffers})
            network.replace_module(name, plain)
        return made, channels
