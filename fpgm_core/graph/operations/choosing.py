"""Operations that choose among channels, turn them round, repeat them, or add some that nobody writes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.fx
from torch.nn import functional as F

from fpgm_core.graph.flow import ALWAYS, NEVER, Known, Value
from fpgm_core.graph.operations.base import Operation, Rebuilt, argument, shape_of
from fpgm_core.graph.operations.gates import gate
from fpgm_core.graph.operations.shapes import gathered

if TYPE_CHECKING:
    from fpgm_core.graph.builder import Builder
    from fpgm_core.graph.rebuilder import Rebuilder

Node = torch.fx.Node


class Padding(Operation):
    """F.pad: channels of zeros that nobody writes, and positions; filled with another number, it can only weigh."""

    makes_new_memory = True

    def propagate(self, walk: Builder, node: Node, inputs: list[Value]) -> Known:
        """The same channels, and NEVER around them."""
        amounts: Any = argument(node, 1, "pad")
        mode, fill = argument(node, 2, "mode", "constant"), argument(node, 3, "value")
        rank = len(shape_of(node))
        if len(inputs) != 1 or not isinstance(amounts, (list, tuple)) or inputs[0].batch * 2 >= 2:
            return None
        at = 2 * (rank - 1 - inputs[0].dim)
        before, after = amounts[at : at + 2] if len(amounts) > at else (0, 0)
        over_images = len(amounts) == 2 * rank and any(amounts[-2:])
        if not isinstance(before, int) or not isinstance(after, int) or min(before, after) < 0 or over_images:
            return None
        if before or after:
            if fill not in (0, None) or mode != "constant" or rank != 4:
                return None
            walk.join(inputs[0].sources, f"its channels are padded ({node.name})")
        value = inputs[0]
        sources = np.pad(value.sources, ((0, 0), (before, after)), constant_values=NEVER)
        index = np.pad(np.arange(value.channels), (before, after), constant_values=NEVER)
        weighs = mode == "constant" and fill not in (0, None) and not value.unwritten
        if not (before or after):
            return replace(value, operation=self, weighs=weighs, base="", index=None)
        return Value(sources, value.dim, self, node.all_input_nodes[0].name, index)

    def rebuild(self, network: Rebuilder, node: Node, value: Value) -> Rebuilt:
        """Positions are padded; channels of zeros are not there."""
        (source,) = network.operands(node)
        made = network.made(source)
        if value.index is None:
            return (None if made is None else network.copied(node, network.narrow)), network.present(source)
        live, known = network.live(value), network.known(source)
        assert known is not None
        if made is None or not len(live):
            return None, live
        if np.array_equal(network.present(source), np.arange(known.channels)):
            return network.copied(node, network.whole), np.arange(value.channels)
        amounts: Any = torch.fx.node.map_arg(argument(node, 1, "pad"), network.narrow)
        at = 2 * (len(shape_of(node)) - 1 - known.dim)
        if any(amounts[:at]):
            made = network.call(F.pad, made, tuple(amounts[:at]))
        taken = network.place(made, network.present(source), value.index[live], known.dim, len(shape_of(source)))
        return (network.call(torch.clone, taken) if taken is network.made(source) else taken), live


class Flip(Operation):
    """flip, roll: over positions channels stay; over channels they are turned round, which is spelled as an index."""

    makes_new_memory = True
    reads_weights = True

    def __init__(self, dims_at: int = 1) -> None:
        self._dims_at = dims_at

    def propagate(self, walk: Builder, node: Node, inputs: list[Value]) -> Known:
        """The same channels, perhaps the other way round."""
        given: Any = node.args[self._dims_at] if len(node.args) == self._dims_at + 1 else node.args[1:]
        given = node.kwargs.get("dims", given)
        rank = len(shape_of(node))
        dims = {d % rank for d in ((given,) if isinstance(given, int) else given) if isinstance(d, int)}
        if len(inputs) != 1 or not dims or inputs[0].batch in dims or inputs[0].spread:
            return None
        value = inputs[0]
        if value.dim not in dims:
            return replace(value, operation=self, base="", index=None)
        if dims != {value.dim} or self._dims_at != 1:
            return None
        index = np.arange(value.channels)[::-1]
        return replace(
            value, sources=value.sources[:, ::-1], operation=self, base=node.all_input_nodes[0].name, index=index
        )

    def rebuild(self, network: Rebuilder, node: Node, value: Value) -> Rebuilt:
        """The same call, or a choice of channels."""
        if value.index is not None:
            return gathered(network, node, value)
        (source,) = network.operands(node)
        left = network.made(source) is not None
        return (network.copied(node, network.narrow) if left else None), network.present(source)


class Repeat(Operation):
    """repeat: channels one set behind another; positions once more."""

    makes_new_memory = True

    def propagate(self, walk: Builder, node: Node, inputs: list[Value]) -> Known:
        """Each channel as often as it is repeated."""
        given: Any = node.args[1] if len(node.args) == 2 else node.args[1:]
        times = [given] if isinstance(given, int) else list(given)
        rank = len(shape_of(node))
        if len(inputs) != 1 or inputs[0].spread or len(times) != rank or rank != len(shape_of(node.all_input_nodes[0])):
            return None
        value = inputs[0]
        if times[value.batch] != 1 or not isinstance(times[value.dim], int):
            return None
        if times[value.dim] == 1:
            return replace(value, operation=self, base="", index=None)
        if any(n != 1 for d, n in enumerate(times) if d != value.dim):
            return None
        walk.join(value.sources, f"its channels are repeated ({node.name})")
        sources = np.tile(value.sources, (1, times[value.dim]))
        index = np.tile(np.arange(value.channels), times[value.dim])
        return Value(sources, value.dim, self, node.all_input_nodes[0].name, index, batch=value.batch)

    def rebuild(self, network: Rebuilder, node: Node, value: Value) -> Rebuilt:
        """The same call, or a choice of channels."""
        if value.index is not None:
            return gathered(network, node, value)
        (source,) = network.operands(node)
        left = network.made(source) is not None
        return (network.copied(node, network.narrow) if left else None), network.present(source)


class Narrow(Operation):
    """narrow(dim, start, length): a slice."""

    shares_memory = True
    reads_weights = True

    def propagate(self, walk: Builder, node: Node, inputs: list[Value]) -> Known:
        """Some of the channels, or of the positions."""
        dim, start, length = (argument(node, i + 1, name) for i, name in enumerate(("dim", "start", "length")))
        if len(inputs) != 1 or inputs[0].spread or not isinstance(dim, int):
            return None
        value = inputs[0]
        if dim % len(shape_of(node)) == value.batch:
            return None
        if dim % len(shape_of(node)) != value.dim:
            return replace(value, operation=self, base="", index=None)
        if not isinstance(start, int) or not isinstance(length, int):
            return None
        walk.deal(value.sources, f"its channels are split ({node.name})")
        index = np.arange(value.channels)[start : start + length if start >= 0 else None][:length]
        base = node.all_input_nodes[0].name
        return replace(value, sources=value.sources[:, index], operation=self, base=base, index=index)

    def rebuild(self, network: Rebuilder, node: Node, value: Value) -> Rebuilt:
        """The same call, or a choice of channels."""
        return Flip.rebuild(self, network, node, value)  # type: ignore[arg-type]


class OfItsType(Operation):
    """new_zeros and its like: of what they are called on only the type is read."""

    makes_new_memory = True

    def propagate(self, walk: Builder, node: Node, inputs: list[Value]) -> Known:
        """Channels that nobody wrote."""
        shape = shape_of(node)
        return Value(np.full((1, shape[1] if len(shape) > 1 else 1), ALWAYS), operation=self)

    def rebuild(self, network: Rebuilder, node: Node, value: Value) -> Rebuilt:
        """The same call, of whatever is left."""
        made = network.copied(node, lambda one: network.made(one) or network.whole(one))
        return made, np.arange(value.channels)


class PixelShuffle(Operation):
    """r * r channels become one at r * r times the positions: it is there where any of them is."""

    makes_new_memory = True

    def propagate(self, walk: Builder, node: Node, inputs: list[Value]) -> Known:
        """One channel for every r * r, which all stay while one does."""
        before, after = shape_of(node.all_input_nodes[0]), shape_of(node)
        if len(inputs) != 1 or inputs[0].dim != 1 or inputs[0].batch != 0 or inputs[0].spread or len(after) != 4:
            return None
        times = before[1] // after[1]
        sources = inputs[0].sources.reshape(-1, after[1], times).transpose(0, 2, 1).reshape(-1, after[1])
        walk.join(inputs[0].sources, f"its channels become positions of one ({node.name})")
        return Value(sources, operation=self)

    def rebuild(self, network: Rebuilder, node: Node, value: Value) -> Rebuilt:
        """The same call on whole sets of channels, zeros where one is absent."""
        (source,) = network.operands(node)
        live, known = network.live(value), network.known(source)
        assert known is not None
        times = known.channels // value.channels
        wanted = (live[:, None] * times + np.arange(times)).ravel()
        placed = network.placed(source, wanted)
        if placed is None:
            return None, live
        return network.copied(node, lambda one: placed if one is source else network.narrow(one)), live


class PixelUnshuffle(Operation):
    """Positions become channels: r * r for every one."""

    makes_new_memory = True

    def propagate(self, walk: Builder, node: Node, inputs: list[Value]) -> Known:
        """Each channel as often as there are places in a cell."""
        before, after = shape_of(node.all_input_nodes[0]), shape_of(node)
        if len(inputs) != 1 or inputs[0].dim != 1 or inputs[0].batch != 0 or inputs[0].spread or len(after) != 4:
            return None
        return Value(np.repeat(inputs[0].sources, after[1] // before[1], axis=1), operation=self)

    def rebuild(self, network: Rebuilder, node: Node, value: Value) -> Rebuilt:
        """The same call on what is left."""
        (source,) = network.operands(node)
        times = shape_of(node)[1] // shape_of(source)[1]
        present = (network.present(source)[:, None] * times + np.arange(times)).ravel()
        return (None if network.made(source) is None else network.copied(node, network.narrow)), present


class ChannelShuffle(Operation):
    """channel_shuffle: channels of every group dealt out in turn."""

    makes_new_memory = True

    def propagate(self, walk: Builder, node: Node, inputs: list[Value]) -> Known:
        """The same channels in another order."""
        module = walk.modules[str(node.target)] if node.op == "call_module" else None
        groups: Any = argument(node, 1, "groups") if module is None else module.groups
        if len(inputs) != 1 or inputs[0].dim != 1 or inputs[0].batch != 0 or inputs[0].spread:
            return None
        index = np.arange(inputs[0].channels).reshape(groups, -1).T.ravel()
        return Value(inputs[0].sources[:, index], 1, self, node.all_input_nodes[0].name, index)

    def rebuild(self, network: Rebuilder, node: Node, value: Value) -> Rebuilt:
        """A choice of channels."""
        return gathered(network, node, value)


class GatedHalves(Operation):
    """glu: the first half of the channels times the sigmoid of the second, where a layer of its own writes each."""

    makes_new_memory = True

    def propagate(self, walk: Builder, node: Node, inputs: list[Value]) -> Known:
        """The channels of the first half."""
        module = walk.modules[str(node.target)] if node.op == "call_module" else None
        dim = argument(node, 1, "dim", -1) if module is None else getattr(module, "dim", -1)
        if len(inputs) != 1 or inputs[0].spread or dim % len(shape_of(node)) != inputs[0].dim:
            return None
        value, half = inputs[0], inputs[0].channels // 2
        weighed, weights = value.sources[:, :half], value.sources[:, half:]
        weights = weights[(weights != NEVER).any(1)]
        if not gate(walk, weighed, weights):
            return None
        return Value(weighed, value.dim, self, batch=value.batch)

    def rebuild(self, network: Rebuilder, node: Node, value: Value) -> Rebuilt:
        """The same call on both halves of what is left."""
        (source,) = network.operands(node)
        live = network.live(value)
        placed = network.placed(source, np.concatenate([live, live + value.channels]))
        return (None if placed is None else network.copied(node, lambda _: placed)), live
