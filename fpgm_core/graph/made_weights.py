"""Weights that a forward makes of parameters alone (weight standardisation, scaled convolutions), made once."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn
from torch.fx.node import map_arg
from torch.nn import functional as F

from fpgm_core.graph.operations.base import argument, known_class
from fpgm_core.graph.tracer import trace
from fpgm_core.runtime.locks import FORWARD_LOCK

Node = torch.fx.Node


def with_made_weights(module: nn.Module, input_shape: tuple[int, int, int]) -> nn.Module:
    """The network with plain convolutions and Linear layers where a forward makes their weights of parameters alone.

    Those weights are what eval mode has them, under the names of the parameters they are made of; everything else is
    the module's own. A network without such layers is returned as it is, and so is one that cannot be traced.
    """
    if not any(_may_make_weights(part) for part in module.modules()):
        return module
    try:
        with FORWARD_LOCK:
            traced = trace(module, input_shape)
    except Exception:  # whoever asks for its graph is told
        return module
    found = [node for node in traced.graph.nodes if node.op == "call_function" and node.target in _BUILD]
    plain = [_bake(traced, node) for node in found if _is_made(argument(node, 1, "weight"))]
    if not any(plain):
        return module
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


def _may_make_weights(part: nn.Module) -> bool:
    """Whether a module has a matrix or kernels of its own, and is nothing that is known."""
    return known_class(part) is None and any(p is not None and p.ndim > 1 for p in part._parameters.values())


def _is_made(node: Any) -> bool:
    """Whether a tensor is computed, and of no image."""
    return isinstance(node, Node) and node.op.startswith("call") and _parameters_behind(node) is not None


def _parameters_behind(node: Node) -> list[str] | None:
    """The tensors that a node is computed of, by name; None where an image is among them."""
    found, ahead, seen = dict[str, None](), [node], set[Node]()
    while ahead:
        current = ahead.pop()
        if current.op == "placeholder":
            return None
        if current.op == "get_attr":
            found[str(current.target)] = None
        if current not in seen:
            seen.add(current)
            ahead += current.all_input_nodes
    return list(found)


def _bake(traced: torch.fx.GraphModule, node: Node) -> bool:
    """Put a plain layer in the place of one call; False where what it needs is no one module's own."""
    weight, bias = argument(node, 1, "weight"), argument(node, 2, "bias")
    owners = {name.rpartition(".")[0] for name in _parameters_behind(weight) or ()}
    owner = owners.pop() if len(owners) == 1 else ""
    settings = [argument(node, i, name, default) for i, name, default in _SETTINGS[node.target]]
    settled = not any(isinstance(setting, Node) for setting in settings)
    if not owner or not settled or (bias is not None and not _is_made_or_read(bias)):
        return False
    with torch.no_grad():
        tensors = [None if one is None else _value(traced, one).detach().clone() for one in (weight, bias)]
    layer = _BUILD[node.target](tensors[0], settings)
    layer.weight = nn.Parameter(tensors[0], requires_grad=False)
    layer.register_parameter("bias", None if tensors[1] is None else nn.Parameter(tensors[1], requires_grad=False))
    traced.add_submodule(f"{owner}", layer.eval())
    with traced.graph.inserting_before(node):
        node.replace_all_uses_with(traced.graph.call_module(owner, (argument(node, 0, "input"),)))
    _forget(traced.graph, node)
    return True


def _forget(graph: torch.fx.Graph, node: Node) -> None:
    """Erase a call that nothing asks for any more, and what was computed for it alone."""
    if not node.users and node.op != "placeholder":
        sources = node.all_input_nodes
        graph.erase_node(node)
        for source in sources:
            _forget(graph, source)


def _is_made_or_read(node: Any) -> bool:
    return isinstance(node, Node) and (node.op == "get_attr" or _is_made(node))


def _value(traced: torch.fx.GraphModule, node: Node) -> Any:
    """What a node without images is."""
    if node.op == "get_attr":
        return operator.attrgetter(str(node.target))(traced)
    args: Any = map_arg(node.args, lambda one: _value(traced, one))
    kwargs: Any = map_arg(node.kwargs, lambda one: _value(traced, one))
    if node.op == "call_module":
        return traced.get_submodule(str(node.target))(*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    return node.target(*args, **kwargs)  # type: ignore[operator]


def _convolution(weight: Tensor, settings: Sequence[Any]) -> nn.Module:
    stride, padding, dilation, groups = settings
    sizes = weight.shape[1] * groups, weight.shape[0], tuple(weight.shape[2:])
    return nn.Conv2d(*sizes, stride, padding, dilation, groups, bias=False, device="meta")


def _linear(weight: Tensor, settings: Sequence[Any]) -> nn.Module:
    return nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")


_BUILD: dict[Any, Any] = {F.conv2d: _convolution, F.linear: _linear}
_SETTINGS: dict[Any, tuple[tuple[int, str, Any], ...]] = {
    F.conv2d: ((3, "stride", 1), (4, "padding", 0), (5, "dilation", 1), (6, "groups", 1)),
    F.linear: (),
}
