"""Operations that put tensors together or take them apart: cat, stack, split, indices."""

from __future__ import annotations

import operator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.fx

from fpgm_core.graph.flow import ALWAYS, NEVER, Known, Value
from fpgm_core.graph.operations.base import Operation, Rebuilt, argument, shape_of
from fpgm_core.graph.operations.shapes import gathered

if TYPE_CHECKING:
    from fpgm_core.graph.builder import Builder
    from fpgm_core.graph.rebuilder import Rebuilder

Node = torch.fx.Node


def _parts(node: Node) -> list[Node] | None:
    given: Any = argument(node, 0, "tensors")
    plain = isinstance(given, (list, tuple)) and all(isinstance(part, Node) for part in given)
    return list(given) if plain else None


class Concatenation(Operation):
    """cat: over channels they are appended; over anything else each meets its like."""

    makes_new_memory = True
    _new_dimension = False

    def propagate(self, walk: Builder, node: Node, inputs: list[Value]) -> Known:
        """The parts' channels one after another, or all writers of each."""
        parts, dim, rank = _parts(node), argument(node, 1, "dim", 0), len(shape_of(node))
        if not parts or not isinstance(dim, int) or rank < 2:
            return None
        values = [walk.of(part) for part in parts]
        known = [value for value in values if isinstance(value, Value) and not value.weighs and not value.spread]
        if len(known) < len(parts):
            return None
        known = [self._at(value, dim % rank, known) for value in known]
        if len({(value.dim, value.batch) for value in known}) > 1:
            return None
        if dim % rank == known[0].dim and not self._new_dimension:
            return self._appended(walk, node, known)
        return self._met(walk, node, known, dim % rank)

    @staticmethod
    def _at(value: Value, dim: int, others: list[Value]) -> Value:
        """A value without filters, with its channels where the others have them."""
        leader = next((other for other in others if not other.unwritten), value)
        if value.unwritten and (value.dim, value.batch) != (leader.dim, leader.batch):
            return replace(value, dim=leader.dim, batch=leader.batch)
        return value

    def _appended(self, walk: Builder, node: Node, values: list[Value]) -> Value | None:
        dim = values[0].dim
        sizes = [shape_of(part)[dim] for part in _parts(node) or []]
        rows = [v.sources if v.channels == n else np.full((1, n), ALWAYS) for v, n in zip(values, sizes, strict=True)]
        depth = max(map(len, rows))
        padded = [np.concatenate([r, np.full((depth - len(r), r.shape[1]), NEVER)]) for r in rows]
        joined = np.concatenate(padded, axis=1)
        walk.join(joined, f"its channels are concatenated with others ({node.name})")
        return Value(joined, dim, self, batch=values[0].batch)

    def _met(self, walk: Builder, node: Node, values: list[Value], dim: int) -> Value | None:
        shapes = {shape_of(part)[values[0].dim] for part in _parts(node) or []}
        if len(shapes) > 1 or any(not v.unwritten and v.channels not in shapes for v in values):
            return None
        width = shapes.pop()
        rows = [np.full((1, width), ALWAYS) if v.unwritten else v.sources for v in values]
        both = rows[0]
        if any(row.shape != both.shape or (row != both).any() for row in rows):
            both = np.unique(np.concatenate(rows), axis=0)
            walk.join(both, f"its channels are put beside others ({node.name})")
        new = self._new_dimension
        shifted = [place + (new and dim <= place) for place in (values[0].dim, values[0].batch)]
        return Value(both, shifted[0], self, batch=shifted[1])

    def rebuild(self, network: Rebuilder, node: Node, value: Value) -> Rebuilt:
        """What is left of the parts."""
        parts, dim = _parts(node) or [], int(argument(node, 1, "dim", 0)) % len(shape_of(node))
        if dim == value.dim and not self._new_dimension:
            return self._rebuilt_appended(network, parts, value)
        live = network.live(value)
        placed = [self._with(network, part, live, value, dim) for part in parts]
        return (network.call(self.function, placed, dim) if len(live) else None), live

    function = staticmethod(torch.cat)

    def _with(self, network: Rebuilder, part: Node, channels: np.ndarray, value: Value, dim: int) -> Node:
        known = network.known(part)
        assert known is not None
        if known.unwritten:
            own = value.dim - (self._new_dimension and dim <= value.dim)
            shape = shape_of(part)
            made = network.place(network.whole(part), np.arange(shape[own]), channels, own, len(shape))
        else:
            made = network.placed(part, channels)
        if made is not None:
            return made
        return network.call(torch.narrow, network.whole(part), known.dim, 0, len(channels))  # zeros

    def _rebuilt_appended(self, network: Rebuilder, parts: list[Node], value: Value) -> Rebuilt:
        left, present, begin = [], [], 0
        for part in parts:
            made, known = network.made(part), network.known(part)
            assert known is not None
            width = shape_of(part)[value.dim]
            if made is not None:
                left.append(made)
                present.append(begin + (np.arange(width) if known.unwritten else network.present(part)))
            begin += width
        channels = np.concatenate(present) if present else np.zeros(0, dtype=int)
        return (network.call(torch.cat, left, value.dim) if left else None), channels


class Stack(Concatenation):
    """stack: tensors side by side in a new dimension, channels meeting their like."""

    _new_dimension = True
    function = staticmethod(torch.stack)


class Split(Operation):
    """chunk, split: channels dealt out to several tensors; or positions, each part with all channels."""

    reads_weights = True
    shares_memory = True

    def propagate(self, walk: Builder, node: Node, inputs: list[Value]) -> Known:
        """One value a part."""
        parts, dim = node.meta.get("shape"), argument(node, 2, "dim", 0)
        if len(inputs) != 1 or not isinstance(dim, int) or not isinstance(parts, list) or inputs[0].spread:
            return None
        value, rank = inputs[0], len(shape_of(node.all_input_nodes[0]))
        if dim % rank == value.batch:
            return None
        if dim % rank != value.dim:
            return tuple(replace(value, operation=self, base="", index=None) for _ in parts)
        walk.deal(value.sources, f"its channels are split ({node.name})")
        ends = np.cumsum([part[dim % rank] for part in parts])[:-1]
        base, index = node.all_input_nodes[0].name, np.arange(value.channels)
        dealt = zip(np.split(value.sources, ends, axis=1), np.split(index, ends), strict=True)
        return tuple(replace(value, sources=s, operation=self, base=base, index=i) for s, i in dealt)

    def rebuild(self, network: Rebuilder, node: Node, value: Value) -> Rebuilt:
        """The same call on what is left, where channels are not dealt out."""
        (source,) = network.operands(node)
        left = network.made(source) is not None
        return (network.copied(node, network.narrow) if left else None), network.present(source)


class Item(Operation):
    """x[...] of a tensor, and one of several tensors: also as an attribute, `.values`."""

    shares_memory = True
    reads_weights = True
    reads_spread = True

    def propagate(self, walk: Builder, node: Node, inputs: list[Value]) -> Known:
        """A part of the channels, of the positions, or of several tensors."""
        index: Any = node.args[1]
        known = walk.of(node.all_input_nodes[0])
        if isinstance(known, tuple) and isinstance(index, slice):
            return tuple(replace(one, operation=self) for one in known[index])
        if isinstance(known, tuple):
            index = _FIELDS.get(index, index) if isinstance(index, str) else index
            plain = isinstance(index, int) and -len(known) <= index < len(known)
            return replace(known[index], operation=self) if plain else None
        if isinstance(index, str) or not isinstance(known, Value) or any(not v.unwritten for v in inputs[1:]):
            return None
        index = walk.with_numbers(index)
        places = _places(index, len(shape_of(node.all_input_nodes[0])))
        if places is None:
            return None
        if inputs[0].spread:
            return self._of_spread(walk, node, inputs[0], places)
        value, batch = inputs[0], places[inputs[0].batch]
        channels = places[value.dim]
        if not isinstance(batch, slice) or isinstance(channels, int) or _has_node(channels):
            return None
        moved = [sum(not isinstance(places[d], int) for d in range(at)) for at in (value.dim, value.batch)]
        moved = [at + _new_before(index, at, places) for at in moved]
        if channels == slice(None):
            return replace(value, dim=moved[0], batch=moved[1], operation=self, base="", index=None)
        which = np.arange(value.channels)[channels]
        if len(which) < value.channels:
            walk.deal(value.sources, f"its channels are split ({node.name})")
        sources, base = value.sources[:, channels], node.all_input_nodes[0].name
        return Value(sources, moved[0], self, base, which, value.weighs, moved[1])

    def _of_spread(self, walk: Builder, node: Node, value: Value, places: list[Any]) -> Known:
        """One row of channels that lie over two dimensions: the first half of what is laid out as two, say."""
        depth = value.sources.ndim - 1
        block, others = places[value.dim : value.dim + depth], [*places[: value.dim], *places[value.dim + depth :]]
        plain = all(isinstance(part, int) or part == slice(None) for part in block)
        if value.index is None or not plain or any(part != slice(None) for part in others):
            return None
        which = value.index[tuple(block)]
        if which.ndim != 1 or len(shape_of(node)) != len(shape_of(walk.node(value.base))):
            return None
        walk.deal(value.sources, f"its channels are split ({node.name})")
        sources = value.sources[(slice(None), *block)]
        return Value(sources, value.dim, self, value.base, which, value.weighs, value.batch)

    def rebuild(self, network: Rebuilder, node: Node, value: Value) -> Rebuilt:
        """The same part of what is left."""
        source = node.all_input_nodes[0]
        if value.index is None or not self._cuts_positions(network, node):
            if value.index is not None:
                return gathered(network, node, value)
            left = network.made(source) is not None
            return (network.copied(node, network.narrow) if left else None), network.present(source)
        made, live, known = network.made(source), network.live(value), network.known(source)
        assert known is not None
        if made is None or not len(live):
            return None, live
        if np.array_equal(network.present(source), np.arange(known.channels)):
            return network.copied(node, network.whole), np.arange(value.channels)
        taken = network.place(made, network.present(source), value.index[live], known.dim, len(shape_of(source)))
        index = list(_full(node.args[1], len(shape_of(source))))
        at = [i for i, part in enumerate(index) if part is not None][known.dim]
        index[at] = slice(None)
        return network.call(operator.getitem, taken, _narrowed_index(network, tuple(index))), live

    @staticmethod
    def _cuts_positions(network: Rebuilder, node: Node) -> bool:
        source = node.all_input_nodes[0]
        known = network.known(source)
        if known is None or known.spread or isinstance(node.args[1], (int, str)):
            return False
        index = _full(node.args[1], len(shape_of(source)))
        places = [part for part in index if part is not None]
        others = [part for d, part in enumerate(places) if d != known.dim]
        return len(places) < len(index) or any(part != slice(None) for part in others)


_FIELDS = {"values": 0, "indices": 1}


def _full(index: Any, rank: int) -> tuple[Any, ...]:
    """An index with one entry a dimension, and None for each new one."""
    given = list(index) if isinstance(index, tuple) else [index]
    own = sum(part is not None and part is not Ellipsis for part in given)
    missing = [slice(None)] * (rank - own)
    at = next((i for i, part in enumerate(given) if part is Ellipsis), None)
    return tuple([*given, *missing] if at is None else [*given[:at], *missing, *given[at + 1 :]])


def _places(index: Any, rank: int) -> list[Any] | None:
    """What is taken of each dimension: a slice, a number, a list of numbers; None where it is none of those."""
    places = [part for part in _full(index, rank) if part is not None]
    lists = [part for part in places if isinstance(part, list)]
    plain = all(isinstance(part, (slice, int, Node)) or _is_numbers(part) for part in places)
    if len(places) != rank or not plain or len(lists) > 1:
        return None
    numbers = [part for part in places if isinstance(part, (int, Node)) and not isinstance(part, bool)]
    if any(isinstance(part, Node) for part in numbers) or (lists and numbers):
        return None
    return places


def _is_numbers(part: Any) -> bool:
    return isinstance(part, list) and all(isinstance(one, int) and not isinstance(one, bool) for one in part)


def _has_node(part: Any) -> bool:
    return isinstance(part, slice) and any(isinstance(b, Node) for b in (part.start, part.stop, part.step))


def _new_before(index: Any, place: int, places: list[Any]) -> int:
    """How many new dimensions an index puts in front of what comes to lie at `place` without them."""
    new = kept = 0
    for part in _full(index, len(places)):
        if part is None:
            new += 1
        elif not isinstance(part, int):
            if kept == place:
                return new
            kept += 1
    return new


def _narrowed_index(network: Rebuilder, index: tuple[Any, ...]) -> Any:
    return torch.fx.node.map_arg(index, network.narrow)


class Copied(Operation):
    """index_select: spelled as an index where it is followed; in compact networks, memory of its own."""

    makes_new_memory = True
