"""What each operation does to channels: one rule each, for the walk over the traced network.

An operation without a rule is met honestly: the filters that reach it cannot be pruned, and say why.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.fx
from torch import nn
from torch.nn import functional as F

from fpgm_core.graph.builder import Builder, Known
from fpgm_core.graph.flow import ALWAYS, NEVER, Gate, Norm, Value, WeightedLayer


def whole(builder: Builder, node: torch.fx.Node, value: Value) -> Value:
    """A value whose channels this node cannot follow: they stay, and it reads them as it would the image."""
    why = "after a sigmoid, where an absent channel is not zero" if value.weighs else "out of their order"
    builder.fix(value.sources, f"its channels enter {_describe(builder, node)} {why}")
    return Value(np.full((1, value.sources.shape[1]), ALWAYS), value.dim, "opaque")


def shape_of(node: torch.fx.Node) -> tuple[int, ...]:
    """The shape of a node's result for one image; () where it is several tensors."""
    shape = node.meta["shape"]
    return tuple(shape) if isinstance(shape, torch.Size) else ()


def _fits(value: Value, shape: tuple[int, ...]) -> bool:
    """Whether a tensor of this shape has the value's channels in the value's dimension."""
    return value.dim < len(shape) and value.sources.shape[1] == shape[value.dim]


def opaque(builder: Builder, node: torch.fx.Node, inputs: list[Value], reason: str = "") -> Value:
    """An operation without a rule: what enters it stays whole, what leaves it nobody wrote."""
    reason = reason or f"its channels enter {_describe(builder, node)}, which removal does not follow"
    for value in inputs:
        builder.fix(value.sources, reason)
    if node.op == "call_module":
        for layer in _inner_layers(builder, str(node.target)):
            builder.fixed.setdefault(layer, reason)
    shape = shape_of(node)
    return Value(np.full((1, shape[1] if len(shape) > 1 else 1), ALWAYS), how="opaque")


def _inner_layers(builder: Builder, target: str) -> list[str]:
    return [
        name
        for name, module in builder.modules.items()
        if f"{name}.".startswith(f"{target}.") and isinstance(module, nn.Conv2d)
    ]


def _describe(builder: Builder, node: torch.fx.Node) -> str:
    if node.op == "call_module":
        return f"{node.target} ({type(builder.modules[str(node.target)]).__name__})"
    return f"{getattr(node.target, '__name__', node.target)} ({node.name})"


Rule = Callable[[Builder, torch.fx.Node, list[Value]], Known]


def _argument(node: torch.fx.Node, position: int, name: str, default: Any = None) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def _elementwise(builder: Builder, node: torch.fx.Node, inputs: list[Value]) -> Known:
    """f(0) = 0, element by element: channels stay who they are."""
    if len(inputs) != 1 or not _fits(inputs[0], shape_of(node)):
        return None
    return replace(inputs[0], how="keep")


def _spatial(builder: Builder, node: torch.fx.Node, inputs: list[Value]) -> Known:
    """Pooling of each channel by itself."""
    if len(inputs) != 1 or inputs[0].dim != 1 or len(shape_of(node)) != 4:
        return None
    return _elementwise(builder, node, inputs)


def _dropped_in_training(builder: Builder, node: torch.fx.Node, inputs: list[Value]) -> Known:
    """Stochastic depth: nothing at all in eval mode."""
    return replace(inputs[0], how="same") if len(inputs) == 1 and not _argument(node, 3, "training") else None


def _sigmoid(builder: Builder, node: torch.fx.Node, inputs: list[Value]) -> Known:
    """f(0) is not 0: what comes out can only weigh channels."""
    known = _elementwise(builder, node, inputs)
    return replace(known, weighs=True) if isinstance(known, Value) else None


def _multiply(builder: Builder, node: torch.fx.Node, inputs: list[Value]) -> Known:
    """By a number, by itself, or by weights for each channel (squeeze-and-excite, x * sigmoid(x))."""
    if len(inputs) == 1:  # a number beside it, or twice the same
        return None if inputs[0].weighs else _elementwise(builder, node, inputs)
    if len(inputs) != 2 or inputs[0].weighs == inputs[1].weighs:
        return None
    weighed, weights = sorted(inputs, key=lambda value: value.weighs)
    same = weighed.sources.shape == weights.sources.shape and bool((weighed.sources == weights.sources).all())
    if weighed.dim != weights.dim or weighed.sources.shape[1] != weights.sources.shape[1]:
        return None
    if not same and not _gate(builder, weighed, weights):
        return None
    return replace(weighed, how="gate") if _fits(weighed, shape_of(node)) else None


def _gate(builder: Builder, weighed: Value, weights: Value) -> bool:
    """Note that the one layer behind `weights` follows the channels it weighs; False where it is not one layer."""
    writers, straight = builder.writers(weights.sources), tuple(range(weights.sources.shape[1]))
    if len(writers) != 1 or builder.positions(writers[0], weights.sources) != straight:
        return False
    if writers[0] in builder.writers(weighed.sources):
        return False
    site = builder.site(writers[0])
    if site.groups > 1:  # its filters cannot leave one by one, or may have nothing to read themselves
        return False
    builder.readers.append(Gate(weighed.sources, site.filter_offset))
    of = ", ".join(builder.writers(weighed.sources)) or "the image"
    builder.follows.setdefault(site.name, f"its filters weigh the channels of {of} one by one and leave with them")
    return True


def _add(builder: Builder, node: torch.fx.Node, inputs: list[Value]) -> Known:
    if len(inputs) != 2 or "alpha" in node.kwargs:
        return None
    first, second = (_as_like(value, other) for value, other in (inputs, inputs[::-1]))
    if first.dim != second.dim or first.sources.shape[1] != second.sources.shape[1] or not _fits(first, shape_of(node)):
        return None
    both = np.unique(np.concatenate([first.sources, second.sources]), axis=0)
    builder.join(both, f"its channels meet others in a residual sum ({node.name})")
    together: dict[tuple[int, ...], str] = {}
    for layer in builder.writers(both):
        at = builder.positions(layer, both)
        if at is not None and together.setdefault(at, layer) != layer:
            builder.summed.append((together[at], layer))
    return Value(both, first.dim, "sum")


def _as_like(value: Value, other: Value) -> Value:
    """A value without filters, with its channels where the other has them."""
    if (value.sources == ALWAYS).all() and value.dim != other.dim:
        return Value(np.full((1, other.sources.shape[1]), ALWAYS), other.dim)
    return value


def _cat(builder: Builder, node: torch.fx.Node, inputs: list[Value]) -> Known:
    dimension, parts = _argument(node, 1, "dim", 0), _argument(node, 0, "tensors")
    rank = len(shape_of(node))
    if not isinstance(parts, (list, tuple)) or len(parts) != len(inputs) or not isinstance(dimension, int):
        return None
    if {value.dim for value in inputs} != {dimension % rank}:
        return None
    depth = max(len(value.sources) for value in inputs)
    padded = [np.concatenate([v.sources, np.full((depth - len(v.sources), v.sources.shape[1]), NEVER)]) for v in inputs]
    joined = np.concatenate(padded, axis=1)
    builder.join(joined, f"its channels are concatenated with others ({node.name})")
    return Value(joined, dimension % rank, "cat")


def _flatten(builder: Builder, node: torch.fx.Node, inputs: list[Value]) -> Known:
    """Channels become features: each is repeated H * W times."""
    shape = shape_of(node)
    if len(inputs) != 1 or inputs[0].dim != 1 or len(shape) != 2 or shape[0] != 1:
        return None  # the trace brings one image: more rows are positions, not images
    if shape[1] % inputs[0].sources.shape[1]:
        return None
    return Value(np.repeat(inputs[0].sources, shape[1] // inputs[0].sources.shape[1], axis=1), how="flatten")


def _view(builder: Builder, node: torch.fx.Node, inputs: list[Value]) -> Known:
    """Channels spread over several dimensions, or brought back into one; else a flattening."""
    before, after = shape_of(node.all_input_nodes[0]), shape_of(node)
    if len(inputs) != 1 or inputs[0].dim != 1 or before[0] != after[0]:
        return None
    value = inputs[0]
    rest = before[value.sources.ndim :]  # what follows the channels' dimensions
    block = after[1 : len(after) - len(rest)]
    if not rest or after[len(after) - len(rest) :] != rest or math.prod(block) != value.sources[0].size:
        return _flatten(builder, node, inputs) if value.sources.ndim == 2 else None
    base, index = _origin(node.all_input_nodes[0], value)
    return _rerouted(value.sources.reshape(-1, *block), base, index.reshape(block))


def _origin(node: torch.fx.Node, value: Value) -> tuple[str, np.ndarray]:
    """The node that holds the channels in one dimension, and which of its channels each of the value's is."""
    if value.how == "view" and value.index is not None:
        return value.base, value.index
    return node.name, np.arange(value.sources.shape[1])


def _rerouted(sources: np.ndarray, base: str, index: np.ndarray) -> Value:
    return Value(sources, 1, "gather" if index.ndim == 1 else "view", base, index)


def _transpose(builder: Builder, node: torch.fx.Node, inputs: list[Value]) -> Known:
    """Dimensions trade places: inside the channels' own (a shuffle), or the channels' with positions."""
    rank = len(shape_of(node))
    order = list(range(rank))
    if node.target in (torch.permute, "permute"):
        given: Any = node.args[1] if len(node.args) == 2 and isinstance(node.args[1], (list, tuple)) else node.args[1:]
        order = [int(d) % rank for d in node.kwargs.get("dims", given)]
    else:
        first, second = (int(_argument(node, i, f"dim{i - 1}")) % rank for i in (1, 2))
        order[first], order[second] = order[second], order[first]
    value, depth = inputs[0], inputs[0].sources.ndim - 1
    where = [order.index(value.dim + i) for i in range(depth)]
    if depth == 1:
        return replace(value, dim=where[0], how="keep") if order[0] == 0 else None
    if sorted(where) != list(range(value.dim, value.dim + depth)) or value.index is None:
        return None
    axes = [order[value.dim + i] - value.dim for i in range(depth)]
    return replace(value, sources=value.sources.transpose(0, *(a + 1 for a in axes)), index=value.index.transpose(axes))


def _contiguous(builder: Builder, node: torch.fx.Node, inputs: list[Value]) -> Known:
    return inputs[0] if inputs[0].sources.ndim > 2 else _elementwise(builder, node, inputs)


def _chunk(builder: Builder, node: torch.fx.Node, inputs: list[Value]) -> Known:
    """Channels dealt out to several tensors: `chunk` into so many, `split` into such sizes."""
    amount, dimension = node.args[1] if len(node.args) > 1 else None, _argument(node, 2, "dim", 0)
    parts = node.meta["shape"]
    if len(inputs) != 1 or dimension != 1 or inputs[0].dim != 1 or amount is None or not isinstance(parts, list):
        return None
    builder.join(inputs[0].sources, f"its channels are split ({node.name})")
    ends = np.cumsum([part[1] for part in parts])
    base, index = node.all_input_nodes[0].name, np.arange(inputs[0].sources.shape[1])
    return tuple(
        Value(part, 1, "gather", base, which)
        for part, which in zip(np.split(inputs[0].sources, ends[:-1], axis=1), np.split(index, ends[:-1]), strict=True)
    )


def _pad(builder: Builder, node: torch.fx.Node, inputs: list[Value]) -> Known:
    amounts, mode, fill = _argument(node, 1, "pad"), _argument(node, 2, "mode", "constant"), _argument(node, 3, "value")
    if len(inputs) != 1 or not isinstance(amounts, (list, tuple)) or mode != "constant" or fill not in (0, None):
        return None
    if len(amounts) > 6 or not all(isinstance(amount, int) for amount in amounts):
        return None
    before, after = (amounts[4], amounts[5]) if len(amounts) == 6 else (0, 0)
    if min(before, after) < 0:
        return None
    if len(shape_of(node)) != 4 or inputs[0].dim != 1:
        return None
    if before or after:
        builder.join(inputs[0].sources, f"its channels are padded ({node.name})")
    sources = np.pad(inputs[0].sources, ((0, 0), (before, after)), constant_values=NEVER)
    index = np.pad(np.arange(inputs[0].sources.shape[1]), (before, after), constant_values=NEVER)
    return _rerouted(sources, node.all_input_nodes[0].name, index)


def _getitem(builder: Builder, node: torch.fx.Node, inputs: list[Value]) -> Known:
    index = node.args[1]
    known = builder.of(node.all_input_nodes[0])
    if isinstance(known, tuple):
        return known[index] if isinstance(index, int) else None
    if len(inputs) != 1 or not isinstance(index, tuple) or not all(map(_is_plain_slice, index)):
        return None
    if inputs[0].dim != 1:
        return None
    channels: Any = index[1] if len(index) > 1 else slice(None)
    sources = inputs[0].sources[:, channels]
    if sources.shape[1] != inputs[0].sources.shape[1]:
        builder.join(inputs[0].sources, f"its channels are split ({node.name})")
    which = np.arange(inputs[0].sources.shape[1])[channels]
    return _rerouted(sources, node.all_input_nodes[0].name, which)


def _is_plain_slice(index: Any) -> bool:
    bounds = (index.start, index.stop, index.step) if isinstance(index, slice) else (index,)
    return isinstance(index, slice) and all(bound is None or isinstance(bound, int) for bound in bounds)


def _conv(builder: Builder, node: torch.fx.Node, inputs: list[Value]) -> Known:
    name = str(node.target)
    conv = builder.modules[name]
    assert isinstance(conv, nn.Conv2d)
    shape, value = shape_of(node), inputs[0]
    if value.dim != 1:
        value = replace(whole(builder, node, value), sources=np.full((1, conv.in_channels), ALWAYS))
    kernel, positions = conv.kernel_size[0] * conv.kernel_size[1], int(shape[-1] * shape[-2])
    again = builder.ran_before(name)
    first = -1 if again else len(builder.owner)
    reads, outputs = value.sources, conv.out_channels
    builder.add_site(
        WeightedLayer(name, True, outputs, reads, conv.groups, kernel, positions, conv.bias is not None, first)
    )
    if again:
        return None
    if conv.groups > 1:
        _tie_groups(builder, name, conv, reads)
    return Value(np.arange(first, first + outputs)[None], how="site")


def _tie_groups(builder: Builder, name: str, conv: nn.Conv2d, reads: np.ndarray) -> None:
    """A depthwise convolution moves with the layers it filters; other groups must stay of equal size."""
    straight = tuple(range(conv.in_channels))
    writers = builder.writers(reads)
    if conv.groups == conv.in_channels:
        if conv.out_channels > conv.groups:
            builder.blocks[name] = conv.groups
        elif all(builder.positions(writer, reads) == straight for writer in writers):
            builder.tied += [(writer, name) for writer in writers]
        else:
            builder.joined.setdefault(name, "it filters, one by one, channels that several layers write")
        return
    builder.blocks[name] = math.lcm(builder.blocks.get(name, 1), conv.groups)
    direct = len(reads) == 1 and len(writers) == 1 and builder.positions(writers[0], reads) == straight
    # What a depthwise layer in between reads would leave unevenly: its filters have nothing left to filter.
    if direct and builder.site(writers[0]).groups < builder.site(writers[0]).reads.shape[1]:
        builder.blocks[writers[0]] = math.lcm(builder.blocks.get(writers[0], 1), conv.groups)
    else:
        builder.fix(reads, f"it feeds {name}, a grouped convolution whose groups must stay of equal size")


def _linear(builder: Builder, node: torch.fx.Node, inputs: list[Value]) -> Known:
    """A layer of features; or, applied at every position, a 1 x 1 convolution over the last dimension."""
    name = str(node.target)
    linear = builder.modules[name]
    assert isinstance(linear, nn.Linear)
    shape, reads, width = shape_of(node), inputs[0].sources, linear.out_features
    if inputs[0].dim != len(shape) - 1 and not (reads == ALWAYS).all():
        reads = whole(builder, node, inputs[0]).sources
    if (reads == ALWAYS).all():
        reads = np.full((1, linear.in_features), ALWAYS)
    again = builder.ran_before(name)
    pointwise = len(shape) > 2 and not again
    first = len(builder.owner) if pointwise else -1
    rows = int(np.prod(shape[:-1]))  # how many vectors an image brings
    builder.add_site(WeightedLayer(name, len(shape) > 2, width, reads, 1, 1, rows, linear.bias is not None, first))
    if again:
        return None
    if pointwise:
        return Value(np.arange(first, first + width)[None], len(shape) - 1, "site")
    return Value(np.full((1, width), ALWAYS), how="site")


def _norm(builder: Builder, node: torch.fx.Node, inputs: list[Value]) -> Known:
    name = str(node.target)
    norm = builder.modules[name]
    assert isinstance(norm, nn.BatchNorm2d)
    if inputs[0].dim != 1 or builder.ran_before(name):
        return None
    sources = inputs[0].sources
    sources = np.where((sources == NEVER).all(0), ALWAYS, sources)  # of zeros a norm makes a constant
    after = _sole_conv(builder, node) if norm.track_running_stats else None
    builder.norms.append(Norm(name, sources, bool(norm.affine), after))
    return Value(sources, how="norm")


def _sole_conv(builder: Builder, node: torch.fx.Node) -> str | None:
    source = node.all_input_nodes[0]
    is_conv = source.op == "call_module" and type(builder.modules[str(source.target)]) is nn.Conv2d
    return str(source.target) if is_conv and len(source.users) == 1 else None


def _layer_norm(builder: Builder, node: torch.fx.Node, inputs: list[Value]) -> Known:
    reason = f"its channels enter a LayerNorm ({node.name}), whose statistics run over all of them at once"
    return opaque(builder, node, inputs, reason)


def _mean(builder: Builder, node: torch.fx.Node, inputs: list[Value]) -> Known:
    """The mean over positions: channels stay who they are, in a dimension further left where some vanish."""
    rank = len(shape_of(node.all_input_nodes[0]))
    given = _argument(node, 1, "dim")
    dimensions = {d % rank for d in given} if isinstance(given, (list, tuple)) else set()
    if len(inputs) != 1 or not dimensions or dimensions & {0, inputs[0].dim}:
        return None
    vanished = 0 if _argument(node, 2, "keepdim", False) else sum(d < inputs[0].dim for d in dimensions)
    return replace(inputs[0], dim=inputs[0].dim - vanished, how="keep")


_ELEMENTWISE = (
    nn.Identity, nn.Dropout, nn.Dropout2d,
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Tanh,
)  # fmt: skip
_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_MODULE_RULES: tuple[tuple[Sequence[type[nn.Module]], Rule], ...] = (
    ((nn.Conv2d,), _conv),
    ((nn.Linear,), _linear),
    ((nn.BatchNorm2d,), _norm),
    ((nn.LayerNorm,), _layer_norm),
    ((nn.Flatten,), _flatten),
    ((nn.Sigmoid, nn.Hardsigmoid), _sigmoid),
    (_ELEMENTWISE, _elementwise),
    (_POOLS, _spatial),
)
READS_WEIGHTS = (_multiply, _elementwise)  # these know that an absent channel of a sigmoid's is not zero
READS_SPREAD = (_view, _transpose, _contiguous)  # these read channels that lie over several dimensions
_FUNCTION_RULES: Mapping[Any, Rule] = {
    operator.add: _add, operator.iadd: _add, torch.add: _add,
    operator.mul: _multiply, operator.imul: _multiply, torch.mul: _multiply,
    torch.cat: _cat, torch.concat: _cat, torch.chunk: _chunk, torch.split: _chunk,
    torch.flatten: _flatten, torch.mean: _mean, F.pad: _pad, operator.getitem: _getitem, F.layer_norm: _layer_norm,
    torch.permute: _transpose, torch.transpose: _transpose, torch.reshape: _view,
    torch.sigmoid: _sigmoid, F.sigmoid: _sigmoid, F.hardsigmoid: _sigmoid,
    **dict.fromkeys(
        (
            F.relu, torch.relu, F.relu6, F.leaky_relu, F.elu, F.gelu, F.silu, F.mish, F.hardswish, torch.tanh,
            F.dropout, F.dropout2d,
        ),
        _elementwise,
    ),
    **dict.fromkeys((F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d), _spatial),
}  # fmt: skip
_METHOD_RULES: Mapping[str, Rule] = {
    "add": _add, "add_": _add, "mul": _multiply, "relu": _elementwise, "relu_": _elementwise, "sigmoid": _sigmoid,
    "contiguous": _contiguous, "chunk": _chunk, "split": _chunk, "permute": _transpose, "transpose": _transpose,
    "flatten": _flatten, "view": _view, "reshape": _view, "mean": _mean,
}  # fmt: skip


def rule_for(builder: Builder, node: torch.fx.Node) -> Rule | None:
    """The rule of a node's operation, None where there is none."""
    if node.op == "call_module":
        module = builder.modules[str(node.target)]
        return next((rule for kinds, rule in _MODULE_RULES if type(module) in kinds), None)
    if node.op == "call_function":
        if getattr(node.target, "__name__", "") == "stochastic_depth":  # torchvision's, which is not imported here
            return _dropped_in_training
        return _FUNCTION_RULES.get(node.target)
    if node.op == "call_method":
        return _METHOD_RULES.get(str(node.target))
    return None
