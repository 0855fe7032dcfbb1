"""A traced network run node by node, on all batches side by side: it waits wherever something is to be changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Interpreter, Node

from fpgm_core.graph import Flow


class _Run(Interpreter):
    """One batch on its way: `env` has the values that are still to be read, `place` the number of the next node."""

    def __init__(self, module: nn.Module, flow: Flow, constants: Mapping[str, Tensor]) -> None:
        super().__init__(module, garbage_collect_values=True, graph=flow.graph.graph)
        self._constants = constants
        self._nodes = list(flow.graph.graph.nodes)
        self.place = 0

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        """A tensor that the forward reads by name: of the module, or a constant that tracing found."""
        return self._constants[target] if target in self._constants else super().get_attr(target, args, kwargs)

    def begin(self, images: Tensor) -> None:
        """Give it its images."""
        self.args_iter, self.env, self.place = iter((images,)), {}, 0

    def up_to(self, place: int) -> Mapping[Node, Tensor]:
        """Run up to, not including, node number `place`."""
        for node in self._nodes[self.place : place]:
            self.env[node] = self.run_node(node)
            for source in self.user_to_last_uses.get(node, ()):
                del self.env[source]
        self.place = max(self.place, place)
        return self.env

    def ahead(self, node: Node) -> Tensor:
        """The value of a node that comes later, made of what is there; nothing is moved on, and nothing kept."""
        if node in self.env:
            return self.env[node]
        made = list[Node]()
        pending = [node]
        while pending:
            one = pending[-1]
            missing = [source for source in one.all_input_nodes if source not in self.env]
            pending.extend(missing)
            if not missing:
                self.env[one] = self.run_node(one)
                made.append(pending.pop())
        value: Tensor = self.env[node]
        for one in made:
            self.env.pop(one, None)
        return value


class Walk:
    """Values of one network for every batch, as far as each was asked for; what nobody reads any more is let go.

    `module` is the network in dense shapes, or its masked form, whose trace `flow` is. Its weights may be changed in
    front of the place that the walk has reached.
    """

    def __init__(self, module: nn.Module, flow: Flow, device: torch.device, *, num_batches: int) -> None:
        constants = {name: tensor.to(device) for name, tensor in flow.constants.items()}
        self._runs = [_Run(module, flow, constants) for _ in range(num_batches)]

    def begin(self, batch: int, images: Tensor) -> None:
        """Give a batch its images (B, C, H, W)."""
        self._runs[batch].begin(images)

    def begun(self, batch: int) -> bool:
        """Whether a batch has its images."""
        return self._runs[batch].place > 0

    def ahead(self, batch: int, node: Node) -> Tensor:
        """What a batch becomes at a node that comes later and whose sources are there: nothing is moved on."""
        return self._runs[batch].ahead(node)

    def up_to(self, batch: int, place: int) -> Mapping[Node, Tensor]:
        """Run a batch up to, not including, node number `place`; the values that are still to be read."""
        return self._runs[batch].up_to(place)


def bytes_an_image(flow: Flow) -> int:
    """How much a walk holds of one image at most between two nodes, in float32."""
    nodes = list(flow.graph.graph.nodes)
    ends = {source: place for place, node in enumerate(nodes) for source in node.all_input_nodes}
    now = most = 0
    freed: dict[int, int] = {}
    for place, node in enumerate(nodes):
        shape = node.meta.get("shape")
        size = 4 * shape.numel() if isinstance(shape, torch.Size) else 0
        now += size
        most = max(most, now)
        freed[ends.get(node, place)] = freed.get(ends.get(node, place), 0) + size
        now -= freed.pop(place, 0)
    return most
