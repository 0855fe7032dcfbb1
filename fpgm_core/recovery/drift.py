"""Where a layer's output is added to a stream: what the stream has lost by then can be made good by the layer.

He et al. (ICCV 2017, section 3.3) fit the last layer of a residual branch not to its own output but to what is still
missing from the sum. Otherwise what the branches in front have lost adds up from block to block.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.fx import Node

from fpgm_core.graph import Flow, makes_anew, operation_of

LEAST_SCALE = 1e-2  # of the norm's greatest: a channel that it all but silences says nothing of what is missing


@dataclass(frozen=True)
class Sum:
    """A layer's output is added, behind the norm of that name if any, to the value of the node `other`."""

    other: Node
    norm: str | None

    def as_outputs(self, module: nn.Module, missing: Tensor) -> Tensor:
        """What must be added to the layer's output (B, C, H, W) so that `missing` is added to the sum.

        Nothing in channels that the norm all but silences.
        """
        if self.norm is None:
            return missing
        norm = module.get_submodule(self.norm)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_var is not None
        spread = (norm.running_var + norm.eps).sqrt()
        scale = (norm.weight if norm.weight is not None else torch.ones_like(spread)) / spread
        heard = scale.abs() > LEAST_SCALE * scale.abs().max()
        return missing * torch.where(heard, 1 / scale, torch.zeros_like(scale))[:, None, None]


def sum_behind(module: nn.Module, flow: Flow, node: Node, unfitted: Collection[Node]) -> Sum | None:
    """The sum that a layer's output alone goes into; None where there is none, or the other part is not final yet.

    `unfitted` are the nodes of layers that are refitted after this one.
    """
    modules = dict(module.named_modules(remove_duplicate=False))
    last, norm = node, None
    after = only_user(node)
    if after is not None and after.op == "call_module" and isinstance(modules[str(after.target)], nn.BatchNorm2d):
        last, norm = after, str(after.target)
        after = only_user(after)
    operation = operation_of(modules, after) if after is not None else None
    if after is None or operation is None or operation.role != "sum":
        return None
    others = [each for each in after.all_input_nodes if each is not last]
    if (
        len(others) != 1
        or len(after.args) != 2
        or after.kwargs
        or others[0].meta.get("shape") != last.meta.get("shape")
    ):
        return None
    behind = _ancestors(others[0])
    known = set(list(flow.graph.graph.nodes)[: list(flow.graph.graph.nodes).index(node)])
    if behind & {node, *unfitted} or not all(makes_anew(modules, each) for each in behind - known):
        return None
    return Sum(others[0], norm)


def only_user(node: Node) -> Node | None:
    """The one node that reads a node; None where there are none or several."""
    return next(iter(node.users)) if len(node.users) == 1 else None


def _ancestors(node: Node) -> set[Node]:
    """A node and all that it is made from."""
    found, pending = set[Node](), [node]
    while pending:
        one = pending.pop()
        if one not in found:
            found.add(one)
            pending.extend(one.all_input_nodes)
    return found
