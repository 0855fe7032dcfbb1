"""Convolutions that add and rectify in the same pass over memory: oneDNN's post-operations, on a CPU."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node
from torch.nn import functional as F

from fpgm_core.graph import is_in_place, makes_anew, operation_of
from fpgm_core.inference import onednn

_CONSTANT: list[dict[str, Any]] = [{}, {"mode": "constant", "value": None}]  # zeros: as written, and as traced


def fused(module: nn.Module, dtype: torch.dtype, given: bool = False) -> nn.Module:
    """A traced network in eval mode whose convolutions add and rectify what they write before they write it.

    That is, convolution, then a sum with another value, then ReLU, where each is asked for by the next alone;
    also without the sum, with ReLU6 instead of ReLU, or without a rectifier. A sum is written into the other
    value's memory where nobody reads that any more. Equal up to rounding: a sum is rounded once instead of twice.
    Tensors are shared with `module`, which stays as it is. What is not traced, or not on a CPU whose oneDNN computes
    in `dtype`, the precision it will be run in, is returned as it is.

    With `given` what the network is called with is its own to write into, too; it does where its
    `overwrites_input` is true.
    """
    weight = next(module.parameters(), None)
    here = weight is not None and weight.device.type == "cpu" and onednn.computes_in(dtype)
    return _fuse(module, given) if here and isinstance(module, GraphModule) else module


def _fuse(module: GraphModule, given: bool) -> GraphModule:
    modules, nodes = dict(module.named_modules(remove_duplicate=False)), list(module.graph.nodes)
    chains = {chain.last: chain for node in nodes if (chain := _chain(modules, node)) is not None}
    taken = {node for chain in chains.values() for node in chain.between}
    graph, root = Graph(), dict(modules)
    made: dict[Node, Node] = {}
    for node in nodes:
        if node in chains:
            chain = chains[node]
            name = f"fused_{node.name}"
            root[name] = FusedConv2d(chain.convolution, chain.rectifier, chain.zeros)
            made[node] = graph.call_module(name, tuple(made[source] for source in chain.sources))
        elif node not in taken:
            made[node] = made[node.all_input_nodes[0]] if _is_identity(modules, node) else _copied(graph, node, made)
    quick = GraphModule({**root, **_read_by_name(module)}, graph, type(module).__name__)
    quick.overwrites_input = _write_sums_in_place(quick, given)  # type: ignore[assignment]
    return quick


def _write_sums_in_place(module: GraphModule, given: bool) -> bool:
    """Have sums overwrite what they add where that is memory of the network's own, read for the last time there.

    Whether it does so to what the network is called with, which is its own if it is `given`.
    """
    modules, seen, into_input = dict(module.named_modules()), set[Node](), False

    def anew(node: Node) -> bool:
        return isinstance(_module(modules, node), FusedConv2d) or makes_anew(modules, node)

    for node in module.graph.nodes:
        seen.add(node)
        operation = _module(modules, node)
        if not isinstance(operation, FusedConv2d) or len(node.args) < 2 or node.args[0] is node.args[1]:
            continue
        other = node.args[1]
        own = anew(other) or (given and other.op == "placeholder")
        if own and all(user in seen and anew(user) for user in other.users):
            operation.overwrites = True
            into_input |= other.op == "placeholder"
    return into_input


def _copied(graph: Graph, node: Node, made: dict[Node, Node]) -> Node:
    return graph.node_copy(node, lambda source: made[source])


def _read_by_name(module: GraphModule) -> dict[str, Any]:
    """Tensors that the forward reads itself."""
    targets = [str(node.target) for node in module.graph.nodes if node.op == "get_attr"]
    return {target: operator.attrgetter(target)(module) for target in targets}


@dataclass(frozen=True)
class _Chain:
    """A convolution's node and those fused with it: `between` are all but the last, whose place they take."""

    convolution: nn.Conv2d
    sources: tuple[Node, ...]  # what the convolution reads, and what is added
    rectifier: str
    zeros: int  # channels of zeros behind the convolution's, which it then writes itself
    between: tuple[Node, ...]
    last: Node


def _chain(modules: dict[str, nn.Module], node: Node) -> _Chain | None:
    """What can be fused with the convolution that a node is, if it is one."""
    conv = _module(modules, node)
    if type(conv) is not nn.Conv2d or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        return None
    sources, rectifier, zeros, path = node.args[:1], "none", 0, [node]
    while len(path[-1].users) == 1:
        after = next(iter(path[-1].users))
        if len(sources) == 1 and conv.groups == 1 and (more := _channels_behind(after)):
            zeros += more
        elif len(sources) == 1 and _is_sum(modules, after):
            sources = (*sources, *(source for source in after.all_input_nodes if source is not path[-1]))
        elif (kind := _rectifier(modules, after)) != "none" and (len(sources) == 1 or kind == "relu"):
            rectifier = kind
            path.append(after)
            break
        elif not _is_identity(modules, after):
            break
        path.append(after)
    while _is_identity(modules, path[-1]):
        path.pop()
    if len(path) == 1 or not _may_wait(modules, path):
        return None
    return _Chain(conv, sources, rectifier, zeros, tuple(path[:-1]), path[-1])  # type: ignore[arg-type]


def _module(modules: dict[str, nn.Module], node: Node) -> nn.Module | None:
    return modules[str(node.target)] if node.op == "call_module" else None


def _role(modules: dict[str, nn.Module], node: Node) -> str:
    operation = operation_of(modules, node)
    return "" if operation is None else operation.role


def _is_identity(modules: dict[str, nn.Module], node: Node) -> bool:
    return _role(modules, node) == "identity"


def _is_sum(modules: dict[str, nn.Module], node: Node) -> bool:
    """Whether a node is the sum of two values of one shape."""
    two = len(node.args) == len(node.all_input_nodes) == 2 and not node.kwargs and not node.meta.get("spreads")
    return two and _role(modules, node) == "sum"


def _channels_behind(node: Node) -> int:
    """How many channels of zeros a padding puts behind those of images, 0 where it does something else."""
    if node.target is not F.pad or len(node.args) != 2 or dict(node.kwargs) not in _CONSTANT:
        return 0
    sides: Any = node.args[1]
    return int(sides[5]) if len(sides) == 6 and not any(sides[:5]) and sides[5] > 0 else 0


def _rectifier(modules: dict[str, nn.Module], node: Node) -> str:
    role = _role(modules, node)
    return role if role in ("relu", "relu6") else "none"


def _may_wait(modules: dict[str, nn.Module], path: list[Node]) -> bool:
    """Whether the path's first operation may run in the place of its last: nobody writes into memory meanwhile.

    An operation of the path that does may write into what the one before it made, and nothing else.
    """
    node, before = path[0].next, path[0]
    while True:
        known = node in path and node.all_input_nodes[0] is before
        if node.all_input_nodes and is_in_place(modules, node) and not known:
            return False
        if node in path:
            before = node
        if node is path[-1]:
            return True
        node = node.next


def _widened(tensor: Tensor, zeros: int) -> Tensor:
    """A filter's tensor with so many more entries of zeros in its first dimension."""
    if not zeros:
        return tensor
    more = tensor.new_zeros(zeros, *tensor.shape[1:])
    return nn.Parameter(torch.cat([tensor.detach(), more]), requires_grad=False)


class FusedConv2d(nn.Module):
    """relu(convolution(x) + other) in one operation; `other` may be left out, and the rectifier be another or none.

    Follows autocast like an ordinary convolution. Its tensors are the convolution's, with `zeros` filters of zeros
    behind them. Where it `overwrites`, `other` may be gone afterwards.
    """

    def __init__(self, conv: nn.Conv2d, rectifier: str, zeros: int = 0) -> None:
        super().__init__()
        self.weight = _widened(conv.weight, zeros)
        self.bias = None if conv.bias is None else _widened(conv.bias, zeros)
        self.rectifier = rectifier
        self.overwrites = False
        padding: Any = conv.padding
        self._sides: tuple[list[int], list[int], list[int]] = (list(padding), list(conv.stride), list(conv.dilation))
        self._groups = conv.groups
        self._kernel = conv.kernel_size
        self._low: dict[torch.dtype, tuple[Tensor, Tensor | None]] = {}

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """(B, C_in, H, W) and what is added, of the result's shape or one that spreads to it."""
        weight, bias = self._tensors()
        x = x.to(weight.dtype).contiguous(memory_format=torch.channels_last)  # other layouts are not fused
        layer = onednn.Convolution(weight, bias, *self._sides, self._groups)
        if other is None:
            return layer(x, self.rectifier)
        shape = self._shape(x)
        # The convolution's result may be what spreads. numpy's question: torch's imports sympy to answer it.
        if np.broadcast_shapes(other.shape, shape) != shape:
            plain = layer(x, "none") + other
            return plain if self.rectifier == "none" else plain.relu()
        other = other.to(weight.dtype).expand(shape).contiguous(memory_format=torch.channels_last)
        return layer.added(x, other, self.rectifier, overwrites=self.overwrites)

    def _tensors(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias in the precision that a convolution would compute in."""
        if not torch.is_autocast_enabled("cpu"):
            return self.weight, self.bias
        dtype = torch.get_autocast_dtype("cpu")
        if dtype not in self._low:
            self._low[dtype] = self.weight.to(dtype), None if self.bias is None else self.bias.to(dtype)
        return self._low[dtype]

    def _shape(self, x: Tensor) -> torch.Size:
        """What the convolution makes of x."""
        sides = zip(x.shape[2:], *self._sides, self._kernel, strict=True)
        return torch.Size(
            (x.shape[0], self.weight.shape[0], *((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, p, s, d, k in sides))
        )

    def extra_repr(self) -> str:
        """All that tells two of them apart beside their tensors."""
        return f"{tuple(self.weight.shape)}, {self._sides}, {self._groups}, {self.rectifier}"
