"""What a traced network answers, in kinds that every exporter knows."""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import Any, TypeVar

import torch.fx
from torch import nn
from torch.fx.node import map_arg

M = TypeVar("M", bound=nn.Module)


def with_plain_answer(module: M) -> M | torch.fx.GraphModule:
    """The network itself; where it answers with a dataclass of somebody's own, one that answers with a dict of it.

    Exporters, and whoever opens their files, do not know that class.
    """
    if not isinstance(module, torch.fx.GraphModule) or not any(map(_makes_one, module.graph.nodes)):
        return module
    graph, made = torch.fx.Graph(), dict[torch.fx.Node, Any]()
    for node in module.graph.nodes:
        if _makes_one(node):
            made[node] = {key: map_arg(value, made.__getitem__) for key, value in node.kwargs.items()}
        elif node.op == "output":
            graph.output(map_arg(node.args[0], made.__getitem__))
        else:
            made[node] = graph.node_copy(node, made.__getitem__)
    return torch.fx.GraphModule(module, graph, type(module).__name__).train(module.training)


def _makes_one(node: torch.fx.Node) -> bool:
    """Whether a node makes a dataclass that nothing but the answer reads."""
    made = isinstance(node.target, type) and is_dataclass(node.target) and not node.args
    return made and all(user.op == "output" or _makes_one(user) for user in node.users)
