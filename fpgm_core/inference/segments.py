"""Cutting a traced network into consecutive parts, wherever a single tensor is all that goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch.fx
from torch import nn
from torch.fx import GraphModule, Node

from fpgm_core.graph import makes_anew, operation_of


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
    modules = dict(module.named_modules(remove_duplicate=False))
    place = {node: index for index, node in enumerate(nodes)}
    convolutions = [index for index, node in enumerate(nodes) if _is_convolution(modules, node)]
    needed_until, found = -1, []  # by what any earlier node made
    for index, node in enumerate(nodes[: max(convolutions, default=0)]):  # behind the last there is little to do
        last = max((place[user] for user in node.users), default=-1)
        if needed_until <= index and node.op.startswith("call") and _is_left_alone(modules, node):
            found.append(index)
        needed_until = max(needed_until, last)
    return found


def _is_convolution(modules: Mapping[str, nn.Module], node: Node) -> bool:
    return node.op == "call_module" and isinstance(modules[str(node.target)], nn.Conv2d)


def _is_left_alone(modules: Mapping[str, nn.Module], node: Node) -> bool:
    """Whether no reader of a node can write into its memory, and none is a norm, which belongs to its convolution."""
    return bool(node.users) and all(
        makes_anew(modules, user) or (_is_view(modules, user) and _is_left_alone(modules, user)) for user in node.users
    )


def _is_view(modules: Mapping[str, nn.Module], node: Node) -> bool:
    """Whether a node is a part of a tensor, or the tensor in another shape."""
    operation = operation_of(modules, node)
    views = operation is not None and operation.shares_memory and operation.role != "identity"
    return node.op == "call_function" and views


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
