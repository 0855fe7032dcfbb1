"""A traced network run node by node, on all batches side by side: it waits wherever something is to be changed."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.fx.node import map_arg

from fpgm_core.graph import Flow


class Walk:
    """Values of one network for every batch, as far as each was asked for; what nobody reads any more is let go.

    `module` is the network in dense shapes, or its masked form, whose trace `flow` is. Its weights may be changed in
    front of the place that the walk has reached.
    """

    def __init__(self, module: nn.Module, flow: Flow, device: torch.device, batches: int) -> None:
        self._module = module
        self._nodes: Sequence[Node] = list(flow.graph.graph.nodes)
        self._modules = dict(module.named_modules(remove_duplicate=False))
        self._constants = {name: tensor.to(device) for name, tensor in flow.constants.items()}
        self._ends = {source: place for place, node in enumerate(self._nodes) for source in node.all_input_nodes}
        self._values: list[dict[Node, Tensor]] = [{} for _ in range(batches)]
        self._places = [0] * batches

    def begin(self, batch: int, images: Tensor) -> None:
        """Give a batch its images (B, C, H, W)."""
        self._values[batch] = {self._nodes[0]: images}
        self._places[batch] = 1

    def begun(self, batch: int) -> bool:
        """Whether a batch has its images."""
        return self._places[batch] > 0

    def upto(self, batch: int, place: int) -> Mapping[Node, Tensor]:
        """Run a batch up to, not including, node number `place`; the values that are still to be read."""
        values = self._values[batch]
        for number in range(self._places[batch], place):
            node = self._nodes[number]
            values[node] = self._run(node, values)
            for source in node.all_input_nodes:
                if self._ends[source] == number:
                    values.pop(source, None)
        self._places[batch] = max(self._places[batch], place)
        return values

    def _run(self, node: Node, values: Mapping[Node, Tensor]) -> Any:
        args: Any = map_arg(node.args, values.__getitem__)
        kwargs: Any = map_arg(node.kwargs, values.__getitem__)
        if node.op == "call_module":
            return self._modules[str(node.target)](*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        if node.op == "get_attr":
            name = str(node.target)
            return self._constants[name] if name in self._constants else operator.attrgetter(name)(self._module)
        if node.op == "output":
            return args[0]
        assert callable(node.target)
        return node.target(*args, **kwargs)


def bytes_an_image(flow: Flow) -> int:
    """How much a walk holds of one image at most between two nodes, in float32."""
    nodes = list(flow.graph.graph.nodes)
    ends = {source: place for place, node in enumerate(nodes) for source in node.all_input_nodes}
    held = most = 0
    freed: dict[int, int] = {}
    for place, node in enumerate(nodes):
        shape = node.meta.get("shape")
        size = 4 * shape.numel() if isinstance(shape, torch.Size) else 0
        held += size
        most = max(most, held)
        freed[ends.get(node, place)] = freed.get(ends.get(node, place), 0) + size
        held -= freed.pop(place, 0)
    return most
