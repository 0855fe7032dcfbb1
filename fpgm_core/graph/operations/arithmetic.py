"""Sums, products and their like, of several tensors or of a tensor and a number."""

from __future__ import annotations

import operator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.fx

from fpgm_core.graph.flow import ALWAYS, Known, Value
from fpgm_core.graph.operations.base import Operation, Rebuilt, describe, shape_of, whole
from fpgm_core.graph.operations.gates import gate, met_in_product, parts_of_one, same, under_one_another

if TYPE_CHECKING:
    from fpgm_core.graph.builder import Builder
    from fpgm_core.graph.rebuilder import Rebuilder

Node = torch.fx.Node


@dataclass(frozen=True)
class Operand:
    """A tensor that meets others: `side` is its size where the result has its channels, `dim` that dimension of it."""

    node: Node
    value: Value
    side: int
    dim: int


class Meeting(Operation):
    """Base of operations in which tensors meet element by element, broadcast as PyTorch does."""

    reads_weights = True
    makes_new_memory = True

    def channel_dim(self, walk: Builder, node: Node, source: Node) -> int | None:
        """That of what it meets; of the most channels where everything is laid out so."""
        rank, shape, value = len(shape_of(source)), shape_of(source), walk.of(source)
        assert isinstance(value, Value)
        block = range(value.dim, value.dim + value.sources.ndim - 1)
        for other in node.all_input_nodes:
            known = walk.of(other)
            if isinstance(known, Value) and not known.unwritten and not known.spread:
                dim = known.dim + rank - len(shape_of(other))
                return dim if dim in block else None
        return max(block, key=lambda dim: (shape[dim], dim))

    def met(self, walk: Builder, node: Node, nodes: list[Node]) -> tuple[Value, list[Operand]] | None:
        """Where the result has its channels, and every operand; None where channels do not meet their like."""
        shape, inputs = shape_of(node), [known for one in nodes if isinstance(known := walk.of(one), Value)]
        if not inputs or len(nodes) != len(inputs) or any(value.spread for value in inputs):
            return None
        leaders = [v for v in inputs if not v.unwritten and v.channels > 1] or inputs
        for like, source in zip(inputs, nodes, strict=True):
            if like is leaders[0]:
                offset = len(shape) - len(shape_of(source))
                like = replace(like, dim=like.dim + offset, batch=like.batch + offset)
                break
        if like.dim >= len(shape) or shape[like.dim] != like.channels:
            return None
        operands = [_operand(source, value, shape, like) for source, value in zip(nodes, inputs, strict=True)]
        return None if None in operands else (like, [one for one in operands if one is not None])

    def beside(self, network: Rebuilder, node: Node, source: Node, channels: np.ndarray, dim: int) -> Node | None:
        """An operand with these channels of the result, whose dimension `dim` holds them; what spreads is whole."""
        shape, rank = source.meta["shape"], len(node.meta["shape"])
        own = dim - rank + len(shape)
        if own < 0 or (shape[own] == 1 and node.meta["shape"][dim] > 1):
            return network.whole(source)
        value = network.known(source)
        assert value is not None
        if value.unwritten:
            return network.place(network.whole(source), np.arange(shape[own]), channels, own, len(shape))
        return network.placed(source, channels)

    def copied(self, network: Rebuilder, node: Node, parts: dict[Node, Node | None]) -> Node:
        """The operation on these parts, and on numbers as they are."""
        return network.copied(node, lambda source: parts.get(source) or network.narrow(source))


def tensors_of(walk: Builder, node: Node) -> list[Node]:
    """The tensors that a node reads, numbers apart."""
    return [one for one in node.all_input_nodes if walk.of(one) is not None]


def _operand(node: Node, value: Value, shape: tuple[int, ...], like: Value) -> Operand | None:
    own = shape_of(node)
    dim = like.dim - len(shape) + len(own)
    side = own[dim] if dim >= 0 else 1
    fits = side in (1, like.channels) if value.unwritten else value.dim == dim and value.channels == side
    return Operand(node, value, side, dim) if fits else None


class Elementary(Meeting):
    """f(x, y) with f(0, 0) = 0: sums, differences, the greater of two. Writers of what meets are united."""

    def __init__(self, role: str = "") -> None:
        self.role = role
        self.unites = role == "sum"

    def propagate(self, walk: Builder, node: Node, inputs: list[Value]) -> Known:
        """Where several meet, each channel has all their writers; a number is added to absent channels too."""
        tensors, given = tensors_of(walk, node), [*node.args, node.kwargs.get("other")]
        shifted = any(one not in (*tensors, None, 0) for one in given)  # sum() of a list begins with 0
        return self.combined(walk, node, tensors, shifted)

    def combined(self, walk: Builder, node: Node, tensors: list[Node], shifted: bool) -> Value | None:
        """What comes of these tensors; `shifted` where a number joins them."""
        met = self.met(walk, node, tensors)
        if met is None:
            return None
        like, operands = met
        alike = all(one.side == like.channels and same(one.value.sources, like.sources) for one in operands)
        written = [one for one in operands if not one.value.unwritten]
        if not alike and written and all(one.value.weighs and one.side == like.channels for one in written):
            sources = under_one_another([one.value.sources for one in written])  # what comes out can only weigh, too
            return Value(sources, like.dim, self, weighs=True, batch=like.batch)
        if not alike:
            return self._united(walk, node, like, operands)
        weighs = not like.unwritten and (shifted or any(one.value.weighs for one in operands))
        return Value(like.sources, like.dim, self, weighs=weighs, batch=like.batch)

    def _united(self, walk: Builder, node: Node, like: Value, operands: list[Operand]) -> Value:
        rows = []
        for one in operands:
            value, spreads = one.value, one.side < like.channels
            if value.weighs or (spreads and not value.unwritten):
                value = whole(walk, node, value)
            rows.append(np.full((1, like.channels), ALWAYS) if value.unwritten else value.sources)
        both = under_one_another(rows)
        halves = [parts_of_one(walk, rows[0], row) for row in rows[1:]]
        if not halves or not all(halves):
            walk.join(both, f"its channels meet others in a residual sum ({node.name})")
        together: dict[tuple[int, ...], str] = {}
        for layer in walk.writers(both):
            at = walk.positions(layer, both)
            if at is not None and together.setdefault(at, layer) != layer:
                walk.summed.append((together[at], layer))
        return Value(both, like.dim, self, batch=like.batch)

    def rebuild(self, network: Rebuilder, node: Node, value: Value) -> Rebuilt:
        """Every operand placed onto the channels that any of them holds."""
        operands = network.operands(node)
        holding = [one for one in operands if holds_channels(network, one, node, value)]
        if len(holding) < len(operands):
            channels = np.arange(value.channels)
            parts = {one: self.beside(network, node, one, channels, value.dim) for one in operands}
            parts |= {one: network.whole(one) for one in holding}
            return self.copied(network, node, parts), channels
        present = sorted((network.present(one) for one in holding), key=len, reverse=True)
        channels = present[0]
        for other in present[1:]:
            channels = np.concatenate([channels, np.setdiff1d(other, channels)])
        placed = {one: network.placed(one, channels) for one in holding}
        left = [part for part in placed.values() if part is not None]
        if not left:
            return None, channels
        if (
            self.role == "sum" and len(placed) == 2 and not node.kwargs.get("alpha")
        ):  # a tensor of its own, which what follows may change in place
            total = network.call(operator.add, *left) if len(left) == 2 else network.call(torch.clone, left[0])
            total.meta["spreads"] = len({tuple(one.meta["shape"]) for one in operands}) > 1
            return total, channels
        if len(left) < len(placed):
            zeros = network.call(torch.zeros_like, left[0])
            placed = {one: zeros if part is None else part for one, part in placed.items()}
        return self.copied(network, node, placed), channels


def holds_channels(network: Rebuilder, source: Node, node: Node, value: Value) -> bool:
    """Whether an operand has the result's channels, written by filters, where the result has them."""
    known, own = network.known(source), value.dim - len(node.meta["shape"]) + len(source.meta["shape"])
    return known is not None and not known.unwritten and known.dim == own and known.channels == value.channels


class Multiplication(Meeting):
    """By a number, by itself, by weights for each channel (squeeze-and-excite, x * sigmoid(x)), by a stream."""

    def __init__(self, divides: bool = False) -> None:
        self._divides = divides

    def propagate(self, walk: Builder, node: Node, inputs: list[Value]) -> Known:
        """A channel is absent where it is absent from one operand that is zero there."""
        met = self.met(walk, node, tensors_of(walk, node))
        if met is None or (self._divides and not self._may_divide(node, met[1])):
            return None
        like, operands = met
        for one in operands:
            if one.side < like.channels and not one.value.unwritten:
                walk.fix(one.value.sources, f"it weighs all channels at once ({describe(walk, node)})")
        sized = [one for one in operands if one.side == like.channels and not one.value.unwritten]
        values = [one.value for one in sized]
        if not values:
            return None
        if not self._parameters_follow(walk, operands, values[0]):
            return None
        clean, weights = [v for v in values if not v.weighs], [v for v in values if v.weighs]
        sources = self._sources(walk, node, clean, weights)
        return Value(sources, like.dim, self, weighs=not clean, batch=like.batch)

    @staticmethod
    def _may_divide(node: Node, operands: list[Operand]) -> bool:
        """By a number, a tensor that no filter writes, or one that is not zero where its channels are absent."""
        divisor = node.args[1] if len(node.args) > 1 else node.kwargs.get("other")
        may = all(one.value.unwritten or one.value.weighs for one in operands if one.node is divisor)
        return may and node.args[0] in [one.node for one in operands]

    @staticmethod
    def _sources(walk: Builder, node: Node, clean: list[Value], weights: list[Value]) -> np.ndarray:
        if not clean:
            return under_one_another([weight.sources for weight in weights])
        sources = clean[0].sources
        for other in clean[1:]:
            if not same(other.sources, sources):
                sources = met_in_product(walk, sources, other.sources)
        for weight in weights:
            if not any(same(weight.sources, one.sources) for one in clean) and not gate(walk, sources, weight.sources):
                walk.fix(weight.sources, f"it weighs channels that it cannot leave with ({describe(walk, node)})")
        return sources

    @staticmethod
    def _parameters_follow(walk: Builder, operands: list[Operand], value: Value) -> bool:
        """Learned scales, one a channel, leave with their channels; False where something else reads them too."""
        for one in operands:
            parameter = one.node.op == "get_attr" and str(one.node.target) in walk.parameters
            if not parameter or one.side == 1:
                continue
            alone = len(one.node.users) == 1 and walk.reads_of(str(one.node.target)) == 1
            if not alone or any(known.name == one.node.target for known in walk.channel_tensors):
                return False
            size = int(np.prod(shape_of(one.node))) // one.side
            walk.add_channel_tensor(str(one.node.target), value.sources, one.dim, size)
        return True

    def rebuild(self, network: Rebuilder, node: Node, value: Value) -> Rebuilt:
        """Every operand with the channels that all of them have."""
        operands = network.operands(node)
        sized = [one for one in operands if holds_channels(network, one, node, value)]
        channels = network.present(sized[0])
        for other in sized[1:]:
            channels = channels[np.isin(channels, network.present(other))]
        if not len(channels) or any(network.made(one) is None for one in sized):
            return None, channels
        parts = {one: self._part(network, node, one, channels, value) for one in operands}
        return self.copied(network, node, parts), channels

    def _part(self, network: Rebuilder, node: Node, source: Node, channels: np.ndarray, value: Value) -> Node | None:
        known = network.channel_tensors.get(str(source.target)) if source.op == "get_attr" else None
        if known is None or len(channels) == value.channels:
            return self.beside(network, node, source, channels, value.dim)
        dense = network.tensor(known.name)
        taken = dense.detach().index_select(known.dim, torch.from_numpy(channels))
        kept = torch.nn.Parameter(taken, requires_grad=dense.requires_grad)
        return network.get(known.name, kept)


class MatrixProduct(Operation):
    """matmul of channels, as rows, with weights for positions, the same for all channels: a weighted mean of each."""

    makes_new_memory = True

    def propagate(self, walk: Builder, node: Node, inputs: list[Value]) -> Known:
        """The same channels."""
        given = [node.args[0], node.args[1] if len(node.args) > 1 else node.kwargs.get("other")]
        known = [walk.of(one) if isinstance(one, Node) else None for one in given]
        if len(inputs) != 2 or len(node.all_input_nodes) != 2 or not all(isinstance(one, Value) for one in known):
            return None
        value, weights, rank = inputs[0], inputs[1], len(shape_of(node))
        rows = value.dim == rank - 2 == len(shape_of(node.all_input_nodes[0])) - 2
        if not rows or value.batch != 0 or value.spread or value.unwritten or weights.spread:
            return None
        if not weights.unwritten:
            walk.fix(weights.sources, f"it weighs all channels at once ({describe(walk, node)})")
        walk.by_channel[node.name] = value.sources
        return Value(value.sources, value.dim, self)

    def rebuild(self, network: Rebuilder, node: Node, value: Value) -> Rebuilt:
        """The same call on the rows that are left."""
        source = network.operands(node)[0]
        left = network.made(source) is not None
        made = (
            network.copied(node, lambda one: (network.narrow if one is source else network.whole)(one))
            if left
            else None
        )
        return made, network.present(source)
