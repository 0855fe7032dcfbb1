"""Operations that leave every channel where it is: element by element, or on each channel's positions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.fx
from torch import nn

from fpgm_core.graph.flow import Known, Value
from fpgm_core.graph.operations.base import Operation, Rebuilt, argument, fits, shape_of

if TYPE_CHECKING:
    from fpgm_core.graph.builder import Builder
    from fpgm_core.graph.rebuilder import Rebuilder


class ChannelsKept(Operation):
    """Base of operations that copy themselves onto the narrow tensor they read: channels stay who they are."""

    reads_weights = True

    def rebuild(self, network: Rebuilder, node: torch.fx.Node, value: Value) -> Rebuilt:
        """The same call on what is left of its one operand."""
        source, *others = network.operands(node)  # others that no filter writes: where to sample, say
        if network.made(source) is None:
            return None, network.present(source)
        made = network.copied(node, lambda one: (network.whole if one in others else network.narrow)(one))
        return made, network.present(source)


class Elementwise(ChannelsKept):
    """f(x), element by element. `at_zero(node, module)` says what f makes of zero; None where f(0) = 0.

    Where that is not zero, what comes out can only weigh channels, as a sigmoid's does.
    """

    def __init__(
        self,
        at_zero: Callable[[torch.fx.Node, nn.Module | None], float] | None = None,
        *,
        role: str = "",
        shares_memory: bool = False,
        makes_new_memory: bool = False,
    ) -> None:
        self._at_zero, self.role = at_zero, role
        self.shares_memory, self.makes_new_memory = shares_memory, makes_new_memory

    def propagate(self, walk: Builder, node: torch.fx.Node, inputs: list[Value]) -> Known:
        """The same channels."""
        if len(inputs) != 1 or not fits(inputs[0], shape_of(node)):
            return None
        weighs = inputs[0].weighs
        if not weighs and self._at_zero is not None:
            module = walk.modules[str(node.target)] if node.op == "call_module" else None
            weighs = self._at_zero(node, module) != 0
        return replace(inputs[0], operation=self, weighs=weighs, base="", index=None)


class Spatial(ChannelsKept):
    """Pooling, interpolation, padding of positions: each channel of an image by itself."""

    def __init__(self, *, makes_new_memory: bool = True) -> None:
        self.makes_new_memory = makes_new_memory

    def propagate(self, walk: Builder, node: torch.fx.Node, inputs: list[Value]) -> Known:
        """The same channels at other positions."""
        shape = shape_of(node)
        inputs = [value for value in inputs if not value.unwritten]
        beside = len(node.all_input_nodes) > 1 and walk.of(node.all_input_nodes[0]) is not inputs[0]
        if beside or len(inputs) != 1 or inputs[0].dim != 1 or inputs[0].batch != 0 or len(shape) < 3:
            return None
        return replace(inputs[0], operation=self, base="", index=None) if fits(inputs[0], shape) else None


class InstanceStatistics(Spatial):
    """instance_norm as a function, of an image's own statistics alone: not where it has scales and shifts."""

    def propagate(self, walk: Builder, node: torch.fx.Node, inputs: list[Value]) -> Known:
        """The same channels."""
        return super().propagate(walk, node, inputs) if len(node.all_input_nodes) == 1 else None


class PaddedWith(Spatial):
    """Positions of one number around each channel: where that is not zero, what comes out can only weigh channels."""

    def propagate(self, walk: Builder, node: torch.fx.Node, inputs: list[Value]) -> Known:
        """The same channels at more positions."""
        known = super().propagate(walk, node, inputs)
        fill: Any = walk.modules[str(node.target)]
        return replace(known, weighs=known.weighs or fill.value != 0) if isinstance(known, Value) else known


class DroppedInTraining(Operation):
    """Stochastic depth: nothing at all in eval mode."""

    reads_weights = True
    shares_memory = True

    def propagate(self, walk: Builder, node: torch.fx.Node, inputs: list[Value]) -> Known:
        """The same tensor."""
        asleep = len(inputs) == 1 and not argument(node, 3, "training")
        return replace(inputs[0], operation=self) if asleep else None

    def rebuild(self, network: Rebuilder, node: torch.fx.Node, value: Value) -> Rebuilt:
        """Nothing is called."""
        (source,) = network.operands(node)
        return network.made(source), network.present(source)


def constant(value: float) -> Callable[[torch.fx.Node, nn.Module | None], float]:
    """f(0) of a function without arguments that matter."""
    return lambda node, module: value


def clamped(node: torch.fx.Node, module: nn.Module | None) -> float:
    """f(0) of clamp and hardtanh."""
    if module is not None:
        bounds: list[Any] = [getattr(module, "min_val", None), getattr(module, "max_val", None)]
    else:
        hardtanh = "hardtanh" in str(getattr(node.target, "__name__", node.target))
        names = ("min_val", "max_val") if hardtanh else ("min", "max")
        bounds = [argument(node, i + 1, name, (-1.0, 1.0)[i] if hardtanh else None) for i, name in enumerate(names)]
    if any(isinstance(bound, torch.fx.Node) for bound in bounds):
        return 1.0  # unknown
    low, high = bounds
    return min(max(0.0, low if low is not None else 0.0), high if high is not None else 0.0)


def passed(node: torch.fx.Node, module: nn.Module | None) -> float:
    """f(0) of threshold: 0 where that is above it, else what is put in its place."""
    limit: Any = argument(node, 1, "threshold") if module is None else module.threshold
    value: Any = argument(node, 2, "value") if module is None else module.value
    return 0.0 if isinstance(limit, (int, float)) and limit < 0 else value if isinstance(value, (int, float)) else 1.0


def raised(node: torch.fx.Node, module: nn.Module | None) -> float:
    """f(0) of a power with a number as its exponent."""
    exponent = argument(node, 1, "exponent")
    return 0.0 if isinstance(exponent, (int, float)) and exponent > 0 else 1.0


class PooledWithPlaces(ChannelsKept):
    """Max pooling that also says where each maximum was: two tensors with the channels of the one."""

    makes_new_memory = True
    reads_weights = False

    def propagate(self, walk: Builder, node: torch.fx.Node, inputs: list[Value]) -> Known:
        """The same channels, twice."""
        if len(inputs) != 1 or inputs[0].dim != 1 or inputs[0].batch != 0 or inputs[0].spread:
            return None
        known = replace(inputs[0], operation=self, base="", index=None)
        return known, known


class Unpooled(Operation):
    """Max unpooling: values back at the places that pooling noted."""

    makes_new_memory = True

    def propagate(self, walk: Builder, node: torch.fx.Node, inputs: list[Value]) -> Known:
        """The same channels, where the places are of the same."""
        if len(inputs) != 2 or any(value.dim != 1 or value.batch != 0 for value in inputs):
            return None
        first, second = inputs
        same = first.sources.shape == second.sources.shape and bool((first.sources == second.sources).all())
        return replace(first, operation=self, base="", index=None) if same else None

    def rebuild(self, network: Rebuilder, node: torch.fx.Node, value: Value) -> Rebuilt:
        """The same call on what is left of both."""
        values, places = network.operands(node)
        present = network.present(values)
        parts = {values: network.made(values), places: network.placed(places, present)}
        if None in parts.values():
            return None, present
        return network.copied(node, lambda source: parts.get(source) or network.narrow(source)), present


class ParametricReLU(ChannelsKept):
    """PReLU, with one slope for all channels or one a channel, which leaves with its channel."""

    def propagate(self, walk: Builder, node: torch.fx.Node, inputs: list[Value]) -> Known:
        """The same channels."""
        if node.op != "call_module" or len(inputs) != 1 or inputs[0].weighs or not fits(inputs[0], shape_of(node)):
            return None
        name, value = f"{node.target}.weight", inputs[0]
        if value.dim != 1:
            return None
        if walk.parameters[name].numel() > 1:
            calls = sum(other.target == node.target for other in walk.graph.graph.nodes if other.op == "call_module")
            if walk.reads_of(name) or (calls > 1 and value.unwritten):
                return None
            if calls > 1:
                walk.again.add(str(node.target))
            walk.add_channel_tensor(name, value.sources)
        return replace(value, operation=self, base="", index=None)

    def rebuild(self, network: Rebuilder, node: torch.fx.Node, value: Value) -> Rebuilt:
        """The same call, with the slopes of the channels that are left."""
        (operand,), name = network.operands(node), str(node.target)
        present = network.of_every_call(name, network.present(operand))
        source = network.placed(operand, present)
        if source is None:
            return None, present
        module: Any = network.own(name)
        if f"{name}.weight" in network.channel_tensors:
            module.weight = nn.Parameter(module.weight.detach()[torch.from_numpy(present)], module.weight.requires_grad)
            module.num_parameters = len(present)
        return network.call_module(name, module, source), present
