"""Calls spelled as operations know them: one form for what PyTorch has several names for."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.fx
from torch import nn

from fpgm_core.graph.operations.base import argument, shape_of

Node = torch.fx.Node


def spell(graph: torch.fx.GraphModule) -> bool:
    """Put the forms that operations know in the place of others, in a traced network with shapes; whether any.

    Nothing else is computed: a weighted sum is one whether it is called addcmul, lerp or written out.
    """
    changed = False
    for node in list(graph.graph.nodes):
        name = _name(graph, node)
        made = None
        if name in _SPELLINGS and node.all_input_nodes and not node.meta.get("macs"):
            with graph.graph.inserting_before(node):
                made = _SPELLINGS[name](graph, node)
        if made is not None:
            node.replace_all_uses_with(made)
        if made is not None or (name in ("unbind", "shape", "size") and not node.users):
            graph.graph.erase_node(node)
            changed = True
    if changed:
        graph.recompile()
    return changed


def _name(graph: torch.fx.GraphModule, node: Node) -> str:
    """The plain name of what a node calls; "" where it is called in place, or is none of PyTorch's."""
    if node.op == "call_module":
        return "unflatten" if type(graph.get_submodule(str(node.target))) is nn.Unflatten else ""
    if node.op == "call_method":
        return str(node.target)
    if node.op != "call_function" or node.kwargs.get("out") is not None:
        return ""
    if node.target is getattr:
        return str(node.args[1])
    home = str(getattr(node.target, "__module__", None) or "torch")
    return str(getattr(node.target, "__name__", "")) if home.startswith("torch") or home == "_operator" else ""


def _call(graph: torch.fx.GraphModule, function: Any, *args: Any) -> Node:
    return graph.graph.call_function(function, args)


def _given(node: Node, *names: str) -> list[Any]:
    """The arguments of a call, by position or name."""
    return [argument(node, position, name) for position, name in enumerate(names)]


def _rank(node: Any) -> int:
    return len(shape_of(node))


def _addcmul(graph: torch.fx.GraphModule, node: Node, combine: Any = operator.mul) -> Node:
    start, first, second = _given(node, "input", "tensor1", "tensor2")
    product = _call(graph, combine, first, second)
    value = node.kwargs.get("value", 1)
    return _call(graph, operator.add, start, product if value == 1 else _call(graph, operator.mul, product, value))


def _addcdiv(graph: torch.fx.GraphModule, node: Node) -> Node:
    return _addcmul(graph, node, operator.truediv)


def _lerp(graph: torch.fx.GraphModule, node: Node) -> Node:
    start, end, weight = _given(node, "input", "end", "weight")
    if not isinstance(weight, Node):
        parts = (_call(graph, operator.mul, start, 1 - weight), _call(graph, operator.mul, end, weight))
        return _call(graph, operator.add, *parts)
    step = _call(graph, operator.mul, _call(graph, operator.sub, end, start), weight)
    return _call(graph, operator.add, start, step)


def _rsub(graph: torch.fx.GraphModule, node: Node) -> Node | None:
    first, second = _given(node, "input", "other")
    return None if node.kwargs.get("alpha", 1) != 1 else _call(graph, operator.sub, second, first)


def _part(graph: torch.fx.GraphModule, source: Node, dim: int, index: Any) -> Node:
    return _call(graph, operator.getitem, source, (*[slice(None)] * (dim % _rank(source)), index))


def _unbind(graph: torch.fx.GraphModule, node: Node) -> None:
    """Each of its parts by itself; the call goes where nothing else reads it."""
    source, dim = argument(node, 0, "input"), argument(node, 1, "dim", 0)
    for user in list(node.users):
        if user.target is operator.getitem and isinstance(user.args[1], int):
            with graph.graph.inserting_before(user):
                user.replace_all_uses_with(_part(graph, source, dim, user.args[1] % shape_of(source)[dim]))
            graph.graph.erase_node(user)


def _sizes(graph: torch.fx.GraphModule, node: Node) -> Node | None:
    """x.size(2) for each size that is asked for of x.shape or x.size(): whoever asks for it needs no more of x."""
    source, dim = node.args[0], None if node.target is getattr else argument(node, 1, "dim")
    if not isinstance(source, Node) or not isinstance(source.meta.get("shape"), torch.Size):
        return None
    if dim is not None:
        return graph.graph.call_method("size", (source, dim)) if node.kwargs else None
    _one_by_one(graph, node, [partial(graph.graph.call_method, "size", (source, i)) for i in range(_rank(source))])
    return None


def _one_by_one(graph: torch.fx.GraphModule, several: Node, parts: list[Callable[[], Node]]) -> None:
    """Have whoever reads one of several numbers, or of some of them, read what makes it."""
    for user in [user for user in several.users if user.target is operator.getitem]:
        place: Any = user.args[1]
        if isinstance(place, int):
            with graph.graph.inserting_before(user):
                user.replace_all_uses_with(parts[place]())
        elif isinstance(place, slice) and user.all_input_nodes == [several]:
            _one_by_one(graph, user, parts[place])
        if not user.users:
            graph.graph.erase_node(user)


def _select(graph: torch.fx.GraphModule, node: Node) -> Node | None:
    source, dim, index = _given(node, "input", "dim", "index")
    return _part(graph, source, dim, index) if isinstance(dim, int) else None


def _gathered(graph: torch.fx.GraphModule, node: Node) -> Node | None:
    """One choice along a dimension for all others, which gather is told once for each place, take_along_dim once."""
    if "along" in _name(graph, node):
        source, index, dim = _given(node, "input", "indices", "dim")
    else:
        source, dim, index = _given(node, "input", "dim", "index")
    if not isinstance(dim, int) or not isinstance(source, Node) or not isinstance(index, Node):
        return None
    dim %= _rank(source)
    wanted = (*shape_of(source)[:dim], shape_of(node)[dim], *shape_of(source)[dim + 1 :])
    while _name(graph, index) in ("expand", "expand_as", "repeat", "tile") and isinstance(index.args[0], Node):
        index = index.args[0]
    own = (1,) * (_rank(source) - _rank(index)) + shape_of(index)
    once = len(own) == _rank(source) and all(size == 1 for at, size in enumerate(own) if at != dim)
    if dim == 0 or not once or shape_of(node) != wanted or own[dim] != wanted[dim] or index.meta.get("images"):
        return None
    return _part(graph, source, dim, _call(graph, torch.reshape, index, (-1,)))


def _permuted(graph: torch.fx.GraphModule, source: Node, order: list[int]) -> Node:
    return _call(graph, torch.permute, source, tuple(order))


def _movedim(graph: torch.fx.GraphModule, node: Node) -> Node | None:
    source, given, wanted = _given(node, "input", "source", "destination")
    if not isinstance(given, int) or not isinstance(wanted, int):
        return None
    order = [dim for dim in range(_rank(source)) if dim != given % _rank(source)]
    order.insert(wanted % _rank(source), given % _rank(source))
    return _permuted(graph, source, order)


def _turned(graph: torch.fx.GraphModule, node: Node) -> Node | None:
    source: Any = node.args[0]
    order = list(range(_rank(source)))
    if len(order) < 2 or (len(order) > 2 and str(node.args[1:]) == "('T',)"):
        return None
    return _permuted(graph, source, [*order[:-2], order[-1], order[-2]])


def _unflatten(graph: torch.fx.GraphModule, node: Node) -> Node | None:
    shape = shape_of(node)
    return _call(graph, torch.reshape, node.args[0], (-1, *shape[1:])) if len(shape) > 1 else None


def _repeat_interleave(graph: torch.fx.GraphModule, node: Node) -> Node | None:
    source, times, dim = _given(node, "input", "repeats", "dim")
    if not isinstance(times, int) or not isinstance(dim, int) or dim % _rank(source) == 0:
        return None
    dim %= _rank(source)
    return _part(graph, source, dim, [i for i in range(shape_of(source)[dim]) for _ in range(times)])


def _roll(graph: torch.fx.GraphModule, node: Node) -> Node | None:
    source, *given = _given(node, "input", "shifts", "dims")
    by, dims = (one[0] if isinstance(one, (tuple, list)) and len(one) == 1 else one for one in given)
    if not isinstance(by, int) or not isinstance(dims, int) or dims % _rank(source) == 0:
        return None
    size = shape_of(source)[dims]
    return _part(graph, source, dims, [(i - by) % size for i in range(size)])


def _hsplit(graph: torch.fx.GraphModule, node: Node) -> Node:
    source, parts = _given(node, "input", "indices_or_sections")
    return _call(graph, torch.tensor_split, source, parts, 1)


def _hstack(graph: torch.fx.GraphModule, node: Node) -> Node:
    return _call(graph, torch.cat, argument(node, 0, "tensors"), 1)


def _listed(graph: torch.fx.GraphModule, node: Node) -> Node | None:
    """Several tensors that come as one result, one by one."""
    given, dim = _given(node, "tensors", "dim")
    several = given.meta.get("shape") if isinstance(given, Node) else None
    if not isinstance(several, list):
        return None
    parts = [_call(graph, operator.getitem, given, i) for i in range(len(several))]
    return _call(graph, torch.stack if node.target is torch.stack else torch.cat, parts, dim or 0)


def _norm(graph: torch.fx.GraphModule, node: Node) -> Node | None:
    """The root of a sum of squares."""
    names = ("input", "ord", "dim", "keepdim") if "ord" in node.kwargs else ("input", "p", "dim", "keepdim")
    source, order, dim, keeps = _given(node, *names)
    if order not in (None, 2, 2.0, "fro") or dim is None or node.kwargs.get("dtype") is not None:
        return None
    squares = _call(graph, torch.sum, _call(graph, operator.mul, source, source), dim, bool(keeps))
    return _call(graph, torch.sqrt, squares)


def _einsum(graph: torch.fx.GraphModule, node: Node) -> Node | None:
    """A sum over dimensions, or a product of which one side has all dimensions of the other."""
    equation, *tensors = node.args
    if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)):
        tensors = list(tensors[0])
    inputs, arrow, result = str(equation).replace(" ", "").partition("->")
    terms = inputs.split(",")
    if not arrow or "." in inputs or any(len(set(term)) < len(term) for term in terms) or len(terms) != len(tensors):
        return None
    if len(terms) == 1 and [letter for letter in terms[0] if letter in result] == list(result) != list(terms[0]):
        gone = tuple(place for place, letter in enumerate(terms[0]) if letter not in result)
        return _call(graph, torch.sum, tensors[0], gone)
    if len(terms) == 2 and result in terms:
        other = terms.index(result) ^ 1
        if [letter for letter in result if letter in terms[other]] == list(terms[other]):
            spread = tuple(slice(None) if letter in terms[other] else None for letter in result)
            return _call(
                graph, operator.mul, tensors[other ^ 1], _call(graph, operator.getitem, tensors[other], spread)
            )
    return None


_SPELLINGS: dict[str, Callable[[torch.fx.GraphModule, Node], Node | None]] = {
    "addcmul": _addcmul,
    "addcdiv": _addcdiv,
    "lerp": _lerp,
    "rsub": _rsub,
    "unbind": _unbind,
    "shape": _sizes,
    "size": _sizes,
    "select": _select,
    "index_select": _select,
    "gather": _gathered,
    "take_along_dim": _gathered,
    "movedim": _movedim,
    "moveaxis": _movedim,
    "mT": _turned,
    "T": _turned,
    "t": _turned,
    "unflatten": _unflatten,
    "repeat_interleave": _repeat_interleave,
    "roll": _roll,
    "hsplit": _hsplit,
    "hstack": _hstack,
    "cat": _listed,
    "concat": _listed,
    "concatenate": _listed,
    "stack": _listed,
    "norm": _norm,
    "vector_norm": _norm,
    "linalg_vector_norm": _norm,
    "einsum": _einsum,
}
