"""The channel-flow graph: for every tensor of a network, which filters write each of its channels.

One torch.fx trace, read by units, masks, cost and verification alike. Each operation has one rule;
an operation without a rule is met honestly: the filters that reach it cannot be pruned, and say why.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.fx
from torch import nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional as F

from fpgm_core.errors import FpgmError
from fpgm_core.forward_lock import FORWARD

ALWAYS = 0  # the source of channels no filter writes but that are never zero: the image, opaque operations
NEVER = -1  # the source of channels that are always zero: padding


@dataclass(frozen=True, eq=False)
class Site:
    """One convolution or Linear layer, with what it reads.

    `reads` is (S, C): up to S sources (global filter indices, ALWAYS or NEVER) for each of its C input
    channels or features. `first` is the global index of its filter 0; -1 for a Linear layer, whose outputs
    are never pruned. `cost_per_weight` is how often each weight is used for one image: H * W of the output.
    """

    name: str
    is_conv: bool
    outputs: int
    reads: np.ndarray
    groups: int
    kernel: int
    cost_per_weight: int
    has_bias: bool
    first: int


@dataclass(frozen=True, eq=False)
class Norm:
    """One batch normalisation and the channels it acts on; `reads` as in Site.

    `after` is the convolution whose output it alone reads, so that it can be folded into it; None elsewhere.
    """

    name: str
    reads: np.ndarray
    affine: bool
    after: str | None


@dataclass(frozen=True, eq=False)
class Flow:
    """A network's channel flow: immutable, and independent of weights.

    `size` counts the filters of all convolutions, plus one for ALWAYS: global indices are below it.
    `observed` are the global indices that the output, or an operation without a rule, reads.
    `fixed` tells for each convolution that no coupling may prune why; `joined` for each that a residual
    sum or a concatenation fixes, so that `inner` may not. `tied` lists pairs (expansion, depthwise) of
    one unit. `other_params` counts the parameters outside sites and norms.
    """

    sites: tuple[Site, ...]
    norms: tuple[Norm, ...]
    size: int
    observed: np.ndarray
    fixed: Mapping[str, str]
    joined: Mapping[str, str]
    tied: tuple[tuple[str, str], ...]
    other_params: int

    @property
    def convs(self) -> tuple[Site, ...]:
        """The convolutions, in forward order."""
        return tuple(site for site in self.sites if site.is_conv)


@dataclass(frozen=True, eq=False)
class _Value:
    """What the trace knows of one tensor: the sources (S, C) of its channels, dimension 1."""

    sources: np.ndarray


@dataclass
class _Builder:
    """The state of one walk over the graph."""

    modules: Mapping[str, nn.Module]
    sites: list[Site] = field(default_factory=list)
    norms: list[Norm] = field(default_factory=list)
    owner: list[str] = field(default_factory=lambda: [""])  # global filter index -> layer name
    fixed: dict[str, str] = field(default_factory=dict)
    joined: dict[str, str] = field(default_factory=dict)
    tied: list[tuple[str, str]] = field(default_factory=list)
    observed: list[np.ndarray] = field(default_factory=list)
    again: set[str] = field(default_factory=set)  # modules that run more than once

    def items(self) -> list[Site | Norm]:
        """The sites and norms met so far."""
        return [*self.sites, *self.norms]

    def flow(self, module: nn.Module) -> Flow:
        """What the walk has found, sealed."""
        covered = {item.name for item in self.items()}
        other = sum(p.numel() for name, p in module.named_parameters() if name.rpartition(".")[0] not in covered)
        observed = np.unique(np.concatenate([sources.ravel() for sources in self.observed]))
        return Flow(
            tuple(self.sites),
            tuple(replace(norm, after=None) if {norm.name, norm.after} & self.again else norm for norm in self.norms),
            len(self.owner),
            observed[observed > ALWAYS],
            self.fixed,
            self.joined,
            tuple(self.tied),
            other,
        )

    def writers(self, sources: np.ndarray) -> list[str]:
        """The layers with a filter among the sources, in order."""
        return list(dict.fromkeys(self.owner[i] for i in np.unique(sources) if i > ALWAYS))

    def fix(self, sources: np.ndarray, reason: str) -> None:
        self.observed.append(sources)
        for name in self.writers(sources):
            self.fixed.setdefault(name, reason)

    def join(self, sources: np.ndarray, reason: str) -> None:
        for name in self.writers(sources):
            self.joined.setdefault(name, reason)


def trace_flow(module: nn.Module, input_shape: tuple[int, int, int]) -> Flow:
    """Trace a network in eval mode for images of `input_shape` (channels, height, width).

    Raises FpgmError where torch.fx cannot trace it at all (its forward depends on the data), or where it
    does not run on such images.
    """
    try:
        with FORWARD:
            graph = torch.fx.symbolic_trace(module)
    except Exception as error:  # torch.fx raises whatever the user's forward raises on a proxy
        raise FpgmError(
            f"torch.fx cannot trace this network ({type(error).__name__}: {error}), so its channels cannot be "
            "followed; remove control flow that depends on the data from its forward"
        ) from error
    graph = copy.deepcopy(graph).to("meta").eval()  # shapes are all that is needed: no memory, no time
    try:
        with FORWARD, torch.no_grad():
            ShapeProp(graph).propagate(torch.empty(1, *input_shape, device="meta"))
    except Exception as error:
        raise FpgmError(
            f"this network does not run on images of {input_shape} without data ({str(error).splitlines()[0]}); "
            "check the shape, and remove what reads values, such as item(), from its forward"
        ) from error
    builder = _Builder(dict(graph.named_modules()))
    values: dict[torch.fx.Node, Any] = {}
    for node in graph.graph.nodes:
        values[node] = _visit(builder, node, values)
        if node.target in (operator.iadd, "add_"):  # whoever reads the first operand later reads the sum
            values[node.all_input_nodes[0]] = values[node]
    return builder.flow(module)


def _channels(node: torch.fx.Node) -> int:
    shape: tuple[int, ...] = getattr(node.meta["tensor_meta"], "shape", ())  # none for several tensors (chunk)
    return int(shape[1]) if len(shape) > 1 else 1


def _visit(builder: _Builder, node: torch.fx.Node, values: dict[torch.fx.Node, Any]) -> _Value | None:
    if node.op == "placeholder":
        return _Value(np.full((1, _channels(node)), ALWAYS))
    inputs = [values[source] for source in node.all_input_nodes if values[source] is not None]
    if node.op == "output":
        for value in inputs:
            builder.fix(value.sources, "its filters are the network's outputs")
        return None
    if "tensor_meta" not in node.meta:
        return None  # a size or another number: no channels
    rule = _rule(builder, node) if hasattr(node.meta["tensor_meta"], "shape") else None
    value = rule(builder, node, inputs) if rule else None
    return value if value is not None else _opaque(builder, node, inputs)


def _opaque(builder: _Builder, node: torch.fx.Node, inputs: list[_Value]) -> _Value:
    reason = f"its channels enter {_describe(builder, node)}, which removal does not follow"
    for value in inputs:
        builder.fix(value.sources, reason)
    if node.op == "call_module":
        for layer in _inner_layers(builder, str(node.target)):
            builder.fixed.setdefault(layer, reason)
    return _Value(np.full((1, _channels(node)), ALWAYS))


def _inner_layers(builder: _Builder, target: str) -> list[str]:
    return [
        name
        for name, module in builder.modules.items()
        if f"{name}.".startswith(f"{target}.") and isinstance(module, nn.Conv2d)
    ]


def _describe(builder: _Builder, node: torch.fx.Node) -> str:
    if node.op == "call_module":
        return f"{node.target} ({type(builder.modules[str(node.target)]).__name__})"
    return f"{getattr(node.target, '__name__', node.target)} ({node.name})"


Rule = Callable[[_Builder, torch.fx.Node, list[_Value]], "_Value | None"]


def _keep(builder: _Builder, node: torch.fx.Node, inputs: list[_Value]) -> _Value | None:
    """Elementwise with f(0) = 0, pooling, dropout: channels stay who they are."""
    return inputs[0] if len(inputs) == 1 and inputs[0].sources.shape[1] == _channels(node) else None


def _add(builder: _Builder, node: torch.fx.Node, inputs: list[_Value]) -> _Value | None:
    if len(inputs) != 2 or inputs[0].sources.shape[1] != inputs[1].sources.shape[1]:
        return None
    both = np.concatenate([value.sources for value in inputs])
    builder.join(both, f"its channels meet others in a residual sum ({node.name})")
    return _Value(np.unique(both, axis=0))


def _cat(builder: _Builder, node: torch.fx.Node, inputs: list[_Value]) -> _Value | None:
    dimension = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
    parts = node.args[0] if node.args else None
    if dimension not in (1, -3) or not isinstance(parts, (list, tuple)) or len(parts) != len(inputs):
        return None
    depth = max(len(value.sources) for value in inputs)
    padded = [np.concatenate([v.sources, np.full((depth - len(v.sources), v.sources.shape[1]), NEVER)]) for v in inputs]
    joined = np.concatenate(padded, axis=1)
    builder.join(joined, f"its channels are concatenated with others ({node.name})")
    return _Value(joined)


def _flatten(builder: _Builder, node: torch.fx.Node, inputs: list[_Value]) -> _Value | None:
    """Channels become features: each is repeated H * W times."""
    shape = node.meta["tensor_meta"].shape
    if len(inputs) != 1 or len(shape) != 2 or shape[0] != 1 or shape[1] % inputs[0].sources.shape[1]:
        return None  # the trace brings one image: more rows are positions, not images
    return _Value(np.repeat(inputs[0].sources, shape[1] // inputs[0].sources.shape[1], axis=1))


def _pad(builder: _Builder, node: torch.fx.Node, inputs: list[_Value]) -> _Value | None:
    amounts = node.args[1] if len(node.args) > 1 else node.kwargs.get("pad")
    value = node.kwargs.get("value", node.args[3] if len(node.args) > 3 else 0)
    mode = node.kwargs.get("mode", node.args[2] if len(node.args) > 2 else "constant")
    if len(inputs) != 1 or not isinstance(amounts, (list, tuple)) or mode != "constant" or value not in (0, None):
        return None
    before, after = (amounts[4], amounts[5]) if len(amounts) >= 6 else (0, 0)
    if not isinstance(before, int) or not isinstance(after, int) or min(before, after) < 0 or len(amounts) > 6:
        return None
    if len(node.meta["tensor_meta"].shape) != 4:
        return None
    if before or after:
        builder.join(inputs[0].sources, f"its channels are padded ({node.name})")
    return _Value(np.pad(inputs[0].sources, ((0, 0), (before, after)), constant_values=NEVER))


def _getitem(builder: _Builder, node: torch.fx.Node, inputs: list[_Value]) -> _Value | None:
    index = node.args[1]
    if len(inputs) != 1 or not isinstance(index, tuple) or not all(isinstance(i, slice) for i in index):
        return None
    channels: Any = index[1] if len(index) > 1 else slice(None)
    sources = inputs[0].sources[:, channels]
    if sources.shape[1] != inputs[0].sources.shape[1]:
        builder.join(inputs[0].sources, f"its channels are split ({node.name})")
    return _Value(sources)


def _conv(builder: _Builder, node: torch.fx.Node, inputs: list[_Value]) -> _Value | None:
    name = str(node.target)
    conv = builder.modules[name]
    assert isinstance(conv, nn.Conv2d)
    shape = node.meta["tensor_meta"].shape
    kernel, positions = conv.kernel_size[0] * conv.kernel_size[1], int(shape[-1] * shape[-2])
    again = _runs_again(builder, name)
    first = -1 if again else len(builder.owner)
    site = Site(
        name, True, conv.out_channels, inputs[0].sources, conv.groups, kernel, positions, conv.bias is not None, first
    )
    builder.sites.append(site)
    if again:
        return None
    builder.owner.extend([name] * conv.out_channels)
    if conv.groups > 1:
        _tie_groups(builder, name, conv, inputs[0].sources)
    return _Value(np.arange(first, first + conv.out_channels)[None])


def _tie_groups(builder: _Builder, name: str, conv: nn.Conv2d, reads: np.ndarray) -> None:
    """A depthwise convolution moves with the layer it filters; other groups must stay of equal size."""
    writers = builder.writers(reads)
    alone = len(reads) == 1 and len(writers) == 1 and bool((np.diff(reads[0]) == 1).all())
    if conv.groups == conv.in_channels == conv.out_channels and alone:
        builder.tied.append((writers[0], name))
        return
    reason = "grouped convolution: its groups must stay of equal size"
    builder.joined.setdefault(name, reason)
    builder.join(reads, f"it feeds {name}, a {reason}")


def _linear(builder: _Builder, node: torch.fx.Node, inputs: list[_Value]) -> _Value | None:
    name = str(node.target)
    linear = builder.modules[name]
    assert isinstance(linear, nn.Linear)
    shape = node.meta["tensor_meta"].shape
    followed = not _runs_again(builder, name) and len(shape) == 2
    reads = inputs[0].sources if followed else np.full((1, linear.in_features), ALWAYS)
    rows = int(np.prod(shape[1:-1]))  # how many vectors an image brings: tokens, where there are any
    builder.sites.append(Site(name, False, linear.out_features, reads, 1, 1, rows, linear.bias is not None, -1))
    return _Value(np.full((1, linear.out_features), ALWAYS)) if followed else None


def _norm(builder: _Builder, node: torch.fx.Node, inputs: list[_Value]) -> _Value | None:
    name = str(node.target)
    norm = builder.modules[name]
    assert isinstance(norm, nn.BatchNorm2d)
    if _runs_again(builder, name):
        return None
    sources = inputs[0].sources
    sources = np.where((sources == NEVER).all(0), ALWAYS, sources)  # of zeros a norm makes a constant
    after = _sole_conv(builder, node) if norm.track_running_stats else None
    builder.norms.append(Norm(name, sources, bool(norm.affine), after))
    return _Value(sources)


def _sole_conv(builder: _Builder, node: torch.fx.Node) -> str | None:
    source = node.all_input_nodes[0]
    is_conv = source.op == "call_module" and type(builder.modules[str(source.target)]) is nn.Conv2d
    return str(source.target) if is_conv and len(source.users) == 1 else None


def _spatial_mean(builder: _Builder, node: torch.fx.Node, inputs: list[_Value]) -> _Value | None:
    dimensions = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    if not isinstance(dimensions, (list, tuple)) or set(dimensions) not in ({2, 3}, {-1, -2}):
        return None
    return _keep(builder, node, inputs)


def _runs_again(builder: _Builder, name: str) -> bool:
    """Whether a module ran before: one mask cannot serve two places, so everything around it stays."""
    before = [item for item in builder.items() if item.name == name]
    for item in before:
        reason = f"{name} runs more than once in a forward pass"
        builder.again.add(name)
        builder.fix(item.reads, reason)
        builder.fixed.setdefault(name, reason)
        if isinstance(item, Site) and item.first >= 0:
            builder.fix(np.arange(item.first, item.first + item.outputs), reason)
    return bool(before)


_KEEPING_MODULES = (
    nn.Identity, nn.Dropout, nn.Dropout2d,
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Tanh,
    nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d,
)  # fmt: skip
_MODULE_RULES: tuple[tuple[tuple[type[nn.Module], ...], Rule], ...] = (
    ((nn.Conv2d,), _conv),
    ((nn.Linear,), _linear),
    ((nn.BatchNorm2d,), _norm),
    ((nn.Flatten,), _flatten),
    (_KEEPING_MODULES, _keep),
)
_FUNCTION_RULES: Mapping[Any, Rule] = {
    operator.add: _add, operator.iadd: _add, torch.add: _add,
    torch.cat: _cat, torch.concat: _cat,
    torch.flatten: _flatten, torch.mean: _spatial_mean, F.pad: _pad, operator.getitem: _getitem,
    **dict.fromkeys(
        (
            F.relu, torch.relu, F.relu6, F.leaky_relu, F.elu, F.gelu, F.silu, F.mish, F.hardswish, torch.tanh,
            F.dropout, F.dropout2d, F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d,
        ),
        _keep,
    ),
}  # fmt: skip
_METHOD_RULES: Mapping[str, Rule] = {
    "add": _add, "add_": _add, "relu": _keep, "relu_": _keep, "contiguous": _keep,
    "flatten": _flatten, "view": _flatten, "reshape": _flatten, "mean": _spatial_mean,
}  # fmt: skip


def _rule(builder: _Builder, node: torch.fx.Node) -> Rule | None:
    if node.op == "call_module":
        module = builder.modules[str(node.target)]
        return next((rule for kinds, rule in _MODULE_RULES if type(module) in kinds), None)
    if node.op == "call_function":
        return _FUNCTION_RULES.get(node.target)
    if node.op == "call_method":
        return _METHOD_RULES.get(str(node.target))
    return None
