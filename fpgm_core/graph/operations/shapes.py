"""Operations that lay channels out anew: views, transpositions, reductions, expansions."""

from __future__ import annotations

import math
import operator
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.fx

from fpgm_core.graph.flow import ALWAYS, Known, Value
from fpgm_core.graph.operations.base import Operation, Rebuilt, argument, fits, shape_of
from fpgm_core.graph.operations.elementwise import ChannelsKept
from fpgm_core.graph.operations.gates import parts_of_one, under_one_another

if TYPE_CHECKING:
    from fpgm_core.graph.builder import Builder
    from fpgm_core.graph.rebuilder import Rebuilder

Node = torch.fx.Node


class Reshape(Operation):
    """view, reshape, flatten, squeeze, unsqueeze: channels stay, are repeated (once a position), or are spread out."""

    reads_spread = True
    reads_weights = True
    shares_memory = True

    def propagate(self, walk: Builder, node: Node, inputs: list[Value]) -> Known:
        """Where the channels are afterwards."""
        if not inputs or inputs[0].batch != 0 or (len(inputs) > 1 and node.args[0] is not node.all_input_nodes[0]):
            return None
        value, before, after = inputs[0], shape_of(node.all_input_nodes[0]), shape_of(node)
        if len(before) < 2 or len(after) < 2 or before[0] != after[0] or value.dim == 0:
            return None  # more rows than images: some are positions
        if value.unwritten:
            return None
        laid = None if value.spread else _laid_anew(before, after, value)
        if laid is not None:
            dim, where = laid
            return Value(value.sources[:, where], dim, self, weighs=value.weighs)
        return self._spread(node, value, before, after)

    def _spread(self, node: Node, value: Value, before: tuple[int, ...], after: tuple[int, ...]) -> Known:
        """Channels spread over several dimensions, or brought back into one."""
        dim, rest = value.dim, before[value.dim + value.sources.ndim - 1 :]
        if math.prod(rest) == 1 and after[len(after) - len(rest) :] != rest:
            rest = ()  # no positions: they need not be there afterwards
        block = after[dim : len(after) - len(rest)]
        if after[:dim] != before[:dim] or after[len(after) - len(rest) :] != rest:
            return None
        if not block or math.prod(block) != value.sources[0].size:
            return None
        base, index = node.all_input_nodes[0].name, np.arange(value.channels)
        if value.spread:
            assert value.index is not None
            base, index = value.base, value.index
        return Value(value.sources.reshape(-1, *block), dim, self, base, index.reshape(block), value.weighs)

    def rebuild(self, network: Rebuilder, node: Node, value: Value) -> Rebuilt:
        """The same layout of fewer channels; of a shuffle, a choice of channels."""
        if value.index is not None:
            return gathered(network, node, value)
        source = network.operands(node)[0]
        before, made = network.known(source), network.made(source)
        assert before is not None
        laid = _laid_anew(shape_of(source), shape_of(node), before)
        assert laid is not None
        part, times = network.present(source), value.channels // before.channels
        if (laid[1][:times] == 0).all():  # each once a position
            present = (part[:, None] * times + np.arange(times)).ravel()
        else:  # all of them, once a position
            present = (np.arange(times)[:, None] * before.channels + part).ravel()
        if made is None:
            return None, present
        name = str(getattr(node.target, "__name__", node.target))
        if node.op == "call_module" or name in ("flatten", "squeeze", "unsqueeze"):
            return network.copied(node, network.narrow), present
        return network.call(torch.reshape, made, self._sizes(network, node, value, len(present))), present

    @staticmethod
    def _sizes(network: Rebuilder, node: Node, value: Value, channels: int) -> tuple[Any, ...]:
        given: Any = node.args[1] if len(node.args) == 2 else node.args[1:]
        given = node.kwargs.get("shape", given)
        if not isinstance(given, (list, tuple)) or len(given) != len(shape_of(node)):
            given = (-1, *shape_of(node)[1:])  # asked for by another tensor's size
        sizes = [network.narrow(size) if isinstance(size, Node) else size for size in given]
        sizes[value.dim] = channels
        return tuple(sizes)


def _laid_anew(before: tuple[int, ...], after: tuple[int, ...], value: Value) -> tuple[int, np.ndarray] | None:
    """In which dimension a layout has the channels afterwards, and which channel stands at each of its places.

    Each once; or as often as there are positions behind it that it swallows; or all of them, once for each position
    ahead. None where they are spread.
    """
    ahead, behind = math.prod(before[: value.dim]), math.prod(before[value.dim + 1 :])
    for dim in range(1, len(after)):
        times, left = after[dim] // value.channels, math.prod(after[:dim])
        right = math.prod(after[dim + 1 :])
        if not times or after[dim] != times * value.channels:
            continue
        if left == ahead and right * times == behind:
            return dim, np.repeat(np.arange(value.channels), times)
        if left * times == ahead and right == behind:
            return dim, np.tile(np.arange(value.channels), times)
    return None


def gathered(network: Rebuilder, node: Node, value: Value) -> Rebuilt:
    """A tensor that takes some channels of its base, which may be in memory that both share."""
    assert value.index is not None
    base, live = network.node(value.base), network.live(value)
    known, made = network.known(base), network.made(base)
    assert known is not None
    if made is None or not len(live):
        return None, live
    if np.array_equal(network.present(base), np.arange(known.channels)):  # what shares memory goes on sharing it
        return network.copied(node, network.whole), np.arange(value.channels)
    taken = network.place(made, network.present(base), value.index[live], known.dim, len(base.meta["shape"]))
    if len(shape_of(node)) != len(shape_of(base)):
        sizes = [-1, *shape_of(node)[1:]]
        sizes[value.dim] = len(live)
        taken = network.call(torch.reshape, taken, tuple(sizes))
    # What follows may change its tensor in place, and must not change the base.
    return (network.call(torch.clone, made) if taken is made else taken), live


class Transpose(Operation):
    """permute, transpose: inside the dimensions that channels lie over (a shuffle), or channels with positions."""

    reads_spread = True
    reads_weights = True
    shares_memory = True

    def propagate(self, walk: Builder, node: Node, inputs: list[Value]) -> Known:
        """Channels in another dimension, or another order."""
        order = _order(node)
        if order is None or len(inputs) != 1:
            return None
        value, depth = inputs[0], inputs[0].sources.ndim - 1
        where = [order.index(value.dim + i) for i in range(depth)]
        if depth == 1:
            batch = order.index(value.batch)
            return replace(value, dim=where[0], batch=batch, operation=self, base="", index=None)
        if order[value.batch] != value.batch or value.index is None:
            return None
        if sorted(where) != list(range(value.dim, value.dim + depth)):
            return None
        axes = [order[value.dim + i] - value.dim for i in range(depth)]
        sources = value.sources.transpose(0, *(a + 1 for a in axes))
        return replace(value, sources=sources, index=value.index.transpose(axes), operation=self)

    def rebuild(self, network: Rebuilder, node: Node, value: Value) -> Rebuilt:
        """The same call on what is left."""
        return ChannelsKept.rebuild(self, network, node, value)  # type: ignore[arg-type]


def _order(node: Node) -> list[int] | None:
    """Which dimension of the operand each dimension of the result is."""
    rank = len(shape_of(node))
    if str(getattr(node.target, "__name__", node.target)) == "permute":
        given: Any = node.args[1] if len(node.args) == 2 and isinstance(node.args[1], (list, tuple)) else node.args[1:]
        given = node.kwargs.get("dims", given)
        return [int(d) % rank for d in given] if all(isinstance(d, int) for d in given) else None
    first, second = (argument(node, i + 1, f"dim{i}", argument(node, i + 1, f"axis{i}")) for i in (0, 1))
    if not isinstance(first, int) or not isinstance(second, int):
        return None
    order = list(range(rank))
    order[first % rank], order[second % rank] = order[second % rank], order[first % rank]
    return order


class Contiguous(ChannelsKept):
    """contiguous, clone: the same channels, spread or not."""

    reads_spread = True

    def __init__(self, *, copies: bool = False) -> None:
        self.makes_new_memory, self.shares_memory = copies, not copies

    def propagate(self, walk: Builder, node: Node, inputs: list[Value]) -> Known:
        """The same."""
        if len(inputs) != 1:
            return None
        if inputs[0].spread:
            return replace(inputs[0], operation=self)
        return replace(inputs[0], operation=self, base="", index=None) if fits(inputs[0], shape_of(node)) else None


class Reduction(ChannelsKept):
    """mean, sum, the greatest, over positions: channels stay who they are. Over channels: read with zeros for absent.

    With `several` the result is a pair, of which each has the channels (the greatest, and where it is). `weighs`: of an
    absent channel it makes something.
    """

    def __init__(self, *, several: bool = False, weighs: bool = False) -> None:
        self._several, self._weighs = several, weighs

    def channel_dim(self, walk: Builder, node: Node, source: Node) -> int | None:
        """The one that stays."""
        gone = self._gone(node, len(shape_of(source)))
        return None if gone is None else left_over(walk, source, gone)

    def _gone(self, node: Node, rank: int) -> set[int] | None:
        given = argument(node, 1, "dim")
        dims = (given,) if isinstance(given, int) else given
        if not isinstance(dims, (list, tuple)) or not dims:
            return None
        plain = all(isinstance(d, int) and not isinstance(d, bool) for d in dims)
        return {d % rank for d in dims} if plain else None

    def propagate(self, walk: Builder, node: Node, inputs: list[Value]) -> Known:
        """Channels in a dimension further left where some vanish."""
        if len(inputs) != 1 or (self._several and not isinstance(node.meta.get("shape"), list)):
            return None
        value, rank = inputs[0], len(shape_of(node.all_input_nodes[0]))
        gone = self._gone(node, rank)
        if gone is None or value.batch in gone:
            return None
        shape = node.meta["shape"][0] if self._several else node.meta["shape"]
        keeps = len(shape) == rank
        batch = value.batch - (0 if keeps else sum(d < value.batch for d in gone))
        if value.dim in gone:
            return self._over_channels(walk, node, value, batch)
        dim = value.dim - (0 if keeps else sum(d < value.dim for d in gone))
        weighs = value.weighs or self._weighs
        known = replace(value, dim=dim, batch=batch, operation=self, base="", index=None, weighs=weighs)
        return (known, known) if self._several else known

    def _over_channels(self, walk: Builder, node: Node, value: Value, batch: int) -> Known:
        shape = node.meta["shape"][0] if self._several else node.meta["shape"]
        if value.weighs or batch != 0 or len(shape) < 2:
            return None
        walk.observe(value.sources)
        if not _adds(node):
            walk.join(value.sources, f"its channels are put together into one ({node.name})")
        known = Value(np.full((1, shape[1]), ALWAYS), operation=self)
        return (known, known) if self._several else known

    def rebuild(self, network: Rebuilder, node: Node, value: Value) -> Rebuilt:
        """The same call on what is left, or on all channels where they are put together and zeros count."""
        (source,) = network.operands(node)
        before, everything = network.known(source), np.arange(value.channels)
        if value.unwritten and before is not None and not before.unwritten:
            left = len(network.present(source))
            if not _adds(node) or network.made(source) is None or left == before.channels:
                return network.copied(node, network.whole), everything
            total = network.copied(node, network.narrow)
            if _name_of(node) == "mean":
                total = network.call(operator.mul, total, left / before.channels)
            return total, everything
        return super().rebuild(network, node, value)


class ReadWhole(Operation):
    """An operation across channels that reads zeros where a channel is absent, as in the masked network."""

    def propagate(self, walk: Builder, node: Node, inputs: list[Value]) -> Known:
        """Channels that nobody wrote, all of them."""
        shape = shape_of(node)
        if len(inputs) != 1 or inputs[0].batch != 0 or inputs[0].spread or len(shape) < 2:
            return None
        walk.observe(inputs[0].sources)
        walk.join(inputs[0].sources, f"its channels are read side by side ({node.name})")
        return Value(np.full((1, shape[1]), ALWAYS), operation=self)


_READ_WHOLE = ReadWhole()


def left_over(walk: Builder, source: Node, gone: Collection[int]) -> int | None:
    """The one dimension that a tensor's channels lie over beside those that an operation puts together."""
    value, shape = walk.of(source), shape_of(source)
    assert isinstance(value, Value)
    block = [dim for dim in range(value.dim, value.dim + value.sources.ndim - 1) if dim not in gone]
    large = [dim for dim in block if shape[dim] > 1] or block[:1]
    return large[0] if len(large) == 1 else None


class Softmax(ChannelsKept):
    """Over anything but channels and images: what comes out can only weigh channels."""

    def channel_dim(self, walk: Builder, node: Node, source: Node) -> int | None:
        """The one that it does not run over."""
        dim = self._dim(walk, node)
        return left_over(walk, source, {dim % len(shape_of(source))}) if isinstance(dim, int) else None

    @staticmethod
    def _dim(walk: Builder, node: Node) -> Any:
        module = walk.modules[str(node.target)] if node.op == "call_module" else None
        return argument(node, 1, "dim") if module is None else getattr(module, "dim", None)

    def propagate(self, walk: Builder, node: Node, inputs: list[Value]) -> Known:
        """The same channels."""
        dim = self._dim(walk, node)
        if len(inputs) != 1 or not isinstance(dim, int) or not fits(inputs[0], shape_of(node)):
            return None
        if dim % len(shape_of(node)) == inputs[0].dim and not inputs[0].weighs:
            return _READ_WHOLE.propagate(walk, node, inputs)  # over all channels
        if dim % len(shape_of(node)) in (inputs[0].dim, inputs[0].batch):
            return None
        return replace(inputs[0], operation=self, weighs=True, base="", index=None)


def _name_of(node: Node) -> str:
    return str(getattr(node.target, "__name__", node.target))


def _adds(node: Node) -> bool:
    """Whether absent channels, which are zeros, add nothing: to a sum, or to a mean but for the number."""
    return _name_of(node) in ("sum", "mean")


def as_laid_out(x: torch.Tensor, dim: int) -> torch.Tensor:
    """The tensor itself, before an operation that takes `dim` for the channels' dimension, others for positions'."""
    return x


class LaidOut(Operation):
    """Channels that lie over several dimensions, seen as channels along one and positions along the others.

    Such a channel is there where any of the filters is that write it at one of these positions.
    """

    reads_spread = True
    reads_weights = True
    shares_memory = True

    def propagate(self, walk: Builder, node: Node, inputs: list[Value]) -> Known:
        """All writers of each channel."""
        (value,), dim = inputs, int(node.args[1])  # type: ignore[arg-type]
        rows = np.moveaxis(value.sources, dim - value.dim + 1, -1)
        sources = under_one_another([rows.reshape(-1, rows.shape[-1])])
        if not [row for row in sources[1:] if not parts_of_one(walk, sources[:1], row[None])]:
            return Value(sources, dim, self, weighs=value.weighs)
        walk.deal(sources, f"its channels are laid over several dimensions ({node.name})")
        return Value(sources, dim, self, weighs=value.weighs)

    def rebuild(self, network: Rebuilder, node: Node, value: Value) -> Rebuilt:
        """What is left of the base, zeros where a channel is absent at one of the positions, laid out again."""
        spread, live = network.known(node.all_input_nodes[0]), network.live(value)
        assert spread is not None
        assert spread.index is not None
        index = np.take(spread.index, live, axis=value.dim - spread.dim)
        placed = network.placed(network.node(spread.base), index.ravel())
        if placed is None:
            return None, live
        sizes = [-1, *shape_of(node)[1:]]
        sizes[value.dim] = len(live)
        return network.call(torch.reshape, placed, tuple(sizes)), live


class Expand(Operation):
    """expand, expand_as over positions: channels stay who they are."""

    reads_weights = True
    shares_memory = True

    def propagate(self, walk: Builder, node: Node, inputs: list[Value]) -> Known:
        """The same channels, as many dimensions further right as are new."""
        source = node.args[0]
        if not isinstance(source, Node) or not isinstance(known := walk.of(source), Value) or known.spread:
            return None
        more = len(shape_of(node)) - len(shape_of(source))
        if more or known.batch != 0 or shape_of(node)[0] != shape_of(source)[0]:
            return None
        return replace(known, operation=self, base="", index=None) if fits(known, shape_of(node)) else None

    def rebuild(self, network: Rebuilder, node: Node, value: Value) -> Rebuilt:
        """The same call, with the channels that are left."""
        source: Any = node.args[0]
        made, present = network.made(source), network.present(source)
        sizes: list[Any] = list(shape_of(node))
        if made is None:
            return None, present
        given: Any = node.args[1] if len(node.args) == 2 else node.args[1:]
        if isinstance(given, (list, tuple)) and len(given) == len(sizes):
            sizes = [network.narrow(size) if isinstance(size, Node) else size for size in given]
        sizes[value.batch] = -1
        if not value.unwritten:
            sizes[value.dim] = len(present)
        return network.call(torch.Tensor.expand, made, tuple(sizes)), present
