"""Norms whose statistics run over several channels: layer, group, RMS and global response normalisation.

A removed channel is absent from their statistics, as it is in the compact network: the masked network normalises over
the channels that are left. (With zeros among them the statistics would be another network's.)
"""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.fx
from torch import Tensor, nn

from fpgm_core.graph.flow import ALWAYS, NEVER, JointNorm, Known, Value
from fpgm_core.graph.operations.base import Operation, Rebuilt, has_hooks, known_class, opaque, shape_of

if TYPE_CHECKING:
    from fpgm_core.graph.builder import Builder
    from fpgm_core.graph.rebuilder import Rebuilder

_ALIKE = 1e-4


class FirstLayerNorm(nn.LayerNorm):
    """Layer normalisation over dimension 1, as people write it for images."""

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class FirstRMSNorm(nn.RMSNorm):
    """RMS normalisation over dimension 1."""

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class GlobalResponseNorm(nn.Module):
    """Each channel by its length over all positions, beside the mean of all channels' (Woo et al., ConvNeXt V2, 2023).

    Channels lie along the last dimension.
    """

    channel_axis = -1
    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(self, channels: int, eps: float = 1e-6, elementwise_affine: bool = True, *, bias: bool = True) -> None:
        super().__init__()
        self.normalized_shape, self.eps, self.elementwise_affine = (channels,), eps, elementwise_affine
        for name, there in (("weight", elementwise_affine), ("bias", elementwise_affine and bias)):
            self.register_parameter(name, nn.Parameter(torch.zeros(channels)) if there else None)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        axis, shape = self.channel_axis % x.ndim, [1] * x.ndim
        shape[axis] = -1
        lengths = torch.linalg.vector_norm(x, 2, [d for d in range(1, x.ndim) if d != axis], True)
        scaled = x * (lengths / (lengths.mean(axis, True) + self.eps))
        scaled = scaled if self.weight is None else scaled * self.weight.view(shape)
        return x + scaled if self.bias is None else x + scaled + self.bias.view(shape)


class FirstGlobalResponseNorm(GlobalResponseNorm):
    """The same, with channels along dimension 1."""

    channel_axis = 1


def plain_norm(module: nn.Module) -> nn.Module | None:
    """The plain norm that a module of somebody's own is, found by what it computes; None where it is none.

    It has a weight, maybe a bias, for each channel, and no modules inside. What it makes of a few random numbers tells:
    layer, RMS or global response normalisation over dimension 1 or the last one, or group normalisation.
    """
    tensors = dict(module.named_parameters())
    sizes = {tensor.shape for tensor in tensors.values()}
    if "weight" not in tensors or not set(tensors) <= {"weight", "bias"} or len(sizes) > 1 or known_class(module):
        return None
    shape, eps = sizes.pop(), getattr(module, "eps", getattr(module, "variance_epsilon", None))
    if len(shape) != 1 or not isinstance(eps, float) or any(module.children()) or has_hooks(module):
        return None
    for plain in _candidates(module, int(shape[0]), eps, "bias" in tensors):
        plain._parameters.update({"bias": None, **tensors} if "bias" in plain._parameters else tensors)
        if _computes(module, plain, int(shape[0])):
            return plain.eval()
    return None


def as_plain_norm(module: nn.Module) -> nn.Module:
    """A norm that is followed, as the plain one that it is."""
    return plain_norm(module) or module


def _candidates(module: nn.Module, channels: int, eps: float, has_bias: bool) -> list[nn.Module]:
    if isinstance(module, nn.GroupNorm):
        return [nn.GroupNorm(module.num_groups, channels, eps)]
    found: list[nn.Module] = [kind(channels, eps, bias=has_bias) for kind in (FirstLayerNorm, nn.LayerNorm)]
    if has_bias:
        return [*found, GlobalResponseNorm(channels, eps), FirstGlobalResponseNorm(channels, eps)]
    return [*found, FirstRMSNorm(channels, eps), nn.RMSNorm(channels, eps)]


def _computes(module: nn.Module, plain: nn.Module, channels: int) -> bool:
    last = _axis(plain) < 0
    shape = (2, 3, 2, channels) if last else (2, channels, 2, 3)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            drawn = {
                name: torch.rand(channels, generator=torch.Generator().manual_seed(place + 1)) + 0.5
                for place, name in enumerate(dict(module.named_parameters()))
            }
            found, wanted = (torch.func.functional_call(norm, drawn, (x,)) for norm in (module, plain))
    except Exception:  # whatever somebody's module raises on numbers it was not made for
        return False
    return (
        isinstance(found, Tensor) and found.shape == wanted.shape and bool(torch.allclose(found, wanted, atol=_ALIKE))
    )


def _axis(norm: nn.Module) -> int:
    first = FirstLayerNorm, FirstRMSNorm, FirstGlobalResponseNorm, nn.GroupNorm
    return 1 if isinstance(norm, first) else -1


class KeptNorm(nn.Module):
    """A joint norm of dense shapes whose statistics run over the channels that are kept; the others stay zero."""

    def __init__(self, norm: nn.Module, keep: np.ndarray) -> None:
        super().__init__()
        self._norm, self._axis = (narrowed(norm, norm._parameters, np.flatnonzero(keep)),), _axis(norm)
        self._parameters.update(norm._parameters)
        self._modules.update(norm._modules)  # what stands below it is called by itself
        self.register_buffer("_kept", torch.from_numpy(np.flatnonzero(keep)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape, zeros where channels are absent."""
        kept: Any = self._kept
        (norm,) = self._norm
        for name, parameter in self._parameters.items():  # as they are now: they may have been moved, or replaced
            if parameter is not None:
                norm._parameters[name] = nn.Parameter(parameter.detach()[kept], requires_grad=False)
        y = norm(x.index_select(self._axis, kept)) if len(kept) else x[..., :0]
        return torch.zeros_like(x).index_copy(self._axis, kept, y) if len(kept) else torch.zeros_like(x)


def narrowed(norm: nn.Module, tensors: Any, channels: np.ndarray) -> nn.Module:
    """A new plain norm of these channels, with what `tensors` hold for them."""
    which, count = torch.from_numpy(channels), len(channels)
    eps: Any = norm.eps
    built: nn.Module
    if isinstance(norm, nn.GroupNorm):
        built = nn.GroupNorm(norm.num_groups, max(count, norm.num_groups), eps, affine=False)
        built.num_channels, built.affine = count, norm.affine
    else:
        kind: Any = type(norm)
        built = kind(count, eps, elementwise_affine=False)
        built.elementwise_affine = norm.elementwise_affine
    for name, tensor in tensors.items():
        kept = None if tensor is None else nn.Parameter(tensor.detach()[which.to(tensor.device)], tensor.requires_grad)
        built.register_parameter(name, kept)
    return built.eval()


class JointNormalisation(Operation):
    """nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, over channels (of the norms' own, and at each position or not)."""

    makes_new_memory = True

    def propagate(self, walk: Builder, node: torch.fx.Node, inputs: list[Value]) -> Known:
        """The same channels, all of which it reads."""
        norm: Any = walk.modules[str(node.target)]
        rank, axis = len(shape_of(node)), _axis(norm)
        if len(inputs) != 1 or inputs[0].unwritten:
            return None
        value = inputs[0]
        over = getattr(norm, "normalized_shape", (0,))
        rows = isinstance(norm, GlobalResponseNorm) and value.batch != 0  # it runs over everything but the images
        if value.dim != axis % rank or value.batch == value.dim or len(over) != 1 or rows:
            return opaque(walk, node, inputs, f"its channels enter a norm over other dimensions too ({node.target})")
        sources = np.where((value.sources == NEVER).all(0), ALWAYS, value.sources)
        if not self._noted(walk, str(node.target), sources, norm):
            return None
        return Value(sources, value.dim, self, batch=value.batch)

    @staticmethod
    def _noted(walk: Builder, name: str, sources: np.ndarray, norm: Any) -> bool:
        """Note what the norm reads; False where it ran before on other channels, which cannot leave alike."""
        if not walk.joint_norm_ran_before(name, sources):
            walk.readers.append(JointNorm(name, sources))
        elif name in walk.unlike:
            return False
        for kind, parameter in norm._parameters.items():
            if parameter is not None:
                walk.add_channel_tensor(f"{name}.{kind}", sources)
        if getattr(norm, "num_groups", 1) > 1:
            _keep_even(walk, name, sources, norm.num_groups)
        return True

    def rebuild(self, network: Rebuilder, node: torch.fx.Node, value: Value) -> Rebuilt:
        """The plain norm of the channels that are left, in the dense network's order."""
        (operand,) = network.operands(node)
        name = str(node.target)
        channels = network.of_every_call(name, network.live(value))
        source = network.placed(operand, channels)
        if source is None:
            return None, channels
        norm: Any = network.modules[name]
        tensors = {
            kind: None if p is None else network.tensor(f"{name}.{kind}") for kind, p in norm._parameters.items()
        }
        if isinstance(norm, GlobalResponseNorm):
            return _written_out(network, node, source, channels), channels
        built = narrowed(norm, tensors, channels)
        if not isinstance(norm, (FirstLayerNorm, FirstRMSNorm)):
            return network.call_module(name, built, source), channels
        plain: Any = nn.LayerNorm if isinstance(norm, FirstLayerNorm) else nn.RMSNorm
        built.__class__ = plain  # between two permutations, which every exporter and plain PyTorch know
        rank = len(shape_of(node))
        last = network.call(torch.permute, source, (0, *range(2, rank), 1))
        normed = network.call_module(name, built, last)
        return network.call(torch.permute, normed, (0, rank - 1, *range(1, rank - 1))), channels


def _written_out(network: Rebuilder, node: torch.fx.Node, x: torch.fx.Node, channels: np.ndarray) -> torch.fx.Node:
    """Global response normalisation of these channels, in functions of torch's."""
    name, call, rank = str(node.target), network.call, len(shape_of(node))
    norm: Any = network.modules[name]
    axis = _axis(norm) % rank
    lengths = call(torch.linalg.vector_norm, x, 2, [dim for dim in range(1, rank) if dim != axis], True)
    beside = call(operator.add, call(torch.mean, lengths, axis, True), norm.eps)
    made = call(operator.mul, x, call(operator.truediv, lengths, beside))
    learned = {}
    for kind in ("weight", "bias"):
        dense = network.tensor(f"{name}.{kind}")
        kept = dense.detach()[torch.from_numpy(channels)].reshape(-1, *(1,) * (rank - 1 - axis))
        learned[kind] = network.get(f"{name}.{kind}", nn.Parameter(kept, requires_grad=dense.requires_grad))
    scaled = call(operator.mul, learned["weight"], made)
    return call(operator.add, call(operator.add, x, learned["bias"]), scaled)


def _keep_even(walk: Builder, name: str, sources: np.ndarray, groups: int) -> None:
    """Of every group of a group norm equally many channels must stay."""
    always = (sources == ALWAYS).any(0)
    chain = _writers_in_place(walk, sources) if always.all() or not always.any() else None
    if chain is None:
        walk.fix(sources, f"it feeds {name}, a group norm whose groups must stay of equal size")
        return
    for layer in chain:
        walk.blocks[layer] = math.lcm(walk.blocks.get(layer, 1), groups)
    if len(chain) > 1:  # each by itself they would leave groups of unequal size
        for layer in chain:
            walk.together.setdefault(layer, f"it feeds {name}, a group norm, together with other layers")


def _writers_in_place(walk: Builder, sources: np.ndarray) -> list[str] | None:
    """The layers behind some channels, depthwise ones with what they filter; None where one is out of its place."""
    straight, found = tuple(range(sources.shape[1])), list[str]()
    if any(int(source) in walk.products for source in np.unique(sources)):
        return None
    for layer in walk.writers(sources):
        site = walk.site(layer)
        if walk.positions(layer, sources) != straight:
            return None
        found.append(layer)
        if site.groups > 1:
            depthwise = site.groups == site.reads.shape[1] == site.outputs
            behind = _writers_in_place(walk, site.reads) if depthwise else None
            if behind is None:
                return None
            found += behind
    return found
