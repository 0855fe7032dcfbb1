"""Cutting a traced network into consecutive parts, wherever a single tensor is all that goes on."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
import torch.fx
from torch import nn
from torch.fx import GraphModule, Node
from torch.nn import functional as F

# Operations whose results are memory of their own, and those that may hand on their input's.
_FRESH_MODULES = (nn.Conv2d, nn.Linear, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
_FRESH = {operator.add, operator.mul, torch.add, torch.mul, torch.cat, torch.index_select, torch.clone, F.pad}
_POOLS = {F.adaptive_avg_pool2d, F.avg_pool2d, F.max_pool2d}
_VIEWS = {operator.getitem, torch.flatten}


def segments(module: GraphModule, most: int) -> list[GraphModule]:
    """The network as at most `most` consecutive parts, of like numbers of operations, that share its modules.

    Each maps one tensor to one, and changes nothing that it is given. A network that can be cut nowhere is one part.
    """
    nodes = list(module.graph.nodes)
    cuts = _spread(_cuts(module, nodes), most - 1)
    begins, ends = [0, *cuts], [*cuts, len(nodes) - 1]
    return [_part(module, nodes, begin, end) for begin, end in zip(begins, ends, strict=True)]


def _cuts(module: GraphModule, nodes: Sequence[Node]) -> list[int]:
    """Places in `nodes` after which only that node's value is asked for, by operations that leave it as it is."""
    place = {node: index for index, node in enumerate(nodes)}
    convolutions = [index for index, node in enumerate(nodes) if _is_convolution(module, node)]
    needed_until, found = -1, []  # by what any earlier node made
    for index, node in enumerate(nodes[: max(convolutions, default=0)]):  # behind the last there is little to do
        last = max((place[user] for user in node.users), default=-1)
        if needed_until <= index and node.op.startswith("call") and _is_left_alone(module, node):
            found.append(index)
        needed_until = max(needed_until, last)
    return found


def _is_convolution(module: GraphModule, node: Node) -> bool:
    return node.op == "call_module" and isinstance(module.get_submodule(str(node.target)), nn.Conv2d)


def _is_left_alone(module: GraphModule, node: Node) -> bool:
    """Whether no reader of a node can write into its memory, and none is a norm, which belongs to its convolution."""
    return bool(node.users) and all(
        makes_anew(module, user) or (user.target in _VIEWS and _is_left_alone(module, user)) for user in node.users
    )


def makes_anew(module: GraphModule, node: Node) -> bool:
    """Whether an operation only reads what it is given, and writes into memory of its own."""
    if node.op == "call_module":
        return isinstance(module.get_submodule(str(node.target)), _FRESH_MODULES)
    return node.op == "call_function" and node.target in {*_FRESH, *_POOLS}


def _spread(cuts: Sequence[int], most: int) -> list[int]:
    """At most `most` of the cuts, the last one among them, at like distances."""
    if len(cuts) <= most:
        return list(cuts)
    return [cuts[len(cuts) - 1 - (i * len(cuts)) // most] for i in reversed(range(most))]


def _part(module: GraphModule, nodes: Sequence[Node], begin: int, end: int) -> GraphModule:
    """What leads from the value of node `begin` to that of node `end`; the graph's output counts as one."""
    graph = torch.fx.Graph()
    known = {nodes[begin]: graph.placeholder("x")}
    for node in nodes[begin + 1 : end + 1]:
        known[node] = graph.node_copy(node, lambda source: known[source])
    if nodes[end].op != "output":
        graph.output(known[nodes[end]])
    return GraphModule(module, graph, "Part")
