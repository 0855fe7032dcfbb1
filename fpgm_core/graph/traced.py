"""A module whose channels can be followed: its graph, units and costs, each found once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property

from torch import nn
from torch.fx import GraphModule, Node

from fpgm_core.graph.cost import Cost, dense_cost
from fpgm_core.graph.flow import Flow
from fpgm_core.graph.layers import Layer, layers_of
from fpgm_core.graph.settings import settings_of
from fpgm_core.graph.tracing import trace_flow
from fpgm_core.graph.units import Unit, refusals, units
from fpgm_core.models import fingerprint
from fpgm_core.runtime.memo import Memo


class TracedModule:
    """A module in eval mode with its channel-flow graph: shared between threads, never changed in place.

    `module` maps images (B, *input_shape) to logits; `input_shape` is (channels, height, width). `shapes_on` is the
    device of the pass that shapes are taken from, see `trace_flow`; `traced` is what torch.fx made of the module, where
    that is at hand.
    """

    def __init__(
        self,
        module: nn.Module,
        input_shape: tuple[int, int, int],
        *,
        shapes_on: str = "meta",
        traced: GraphModule | None = None,
    ) -> None:
        self.module = module
        self.input_shape = input_shape
        self._shapes_on, self._traced = shapes_on, traced
        self._memo = Memo(8192)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the weights; see `models.fingerprint`."""
        return fingerprint(self.module.state_dict())

    @cached_property
    def identity(self) -> str:
        """SHA-256 (hex) of the weights, the graph and the input shape: the key of everything kept about a network.

        Two networks of equal weights whose forwards differ have one fingerprint and two identities. The same in every
        process: what is kept on disk is found by it.
        """
        state = self.module.state_dict()
        unsaved = {name: buffer for name, buffer in self.module.named_buffers() if name not in state}
        others = fingerprint({**unsaved, **self.flow.constants})
        digest = hashlib.sha256(f"{self.fingerprint} {others} {self.input_shape}".encode())
        for node in self.flow.graph.graph.nodes:
            digest.update(_described(node, self.flow.graph).encode())
            if node.op == "call_module":
                digest.update(settings_of(self.module.get_submodule(str(node.target))).encode())
        return digest.hexdigest()

    @cached_property
    def flow(self) -> Flow:
        """The channel-flow graph. Raises FpgmError where the network cannot be traced."""
        return trace_flow(self.module, self.input_shape, self._shapes_on, traced=self._traced)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Every convolution, in forward order."""
        return layers_of(self.flow)

    @cached_property
    def dense_cost(self) -> Cost:
        """The cost of the dense network."""
        return dense_cost(self.flow)

    @cached_property
    def num_classes(self) -> int | None:
        """How many logits an image gets; None where the output is no single tensor of them."""
        output = next(node for node in reversed(self.flow.graph.graph.nodes) if node.op == "output")
        shape = output.all_input_nodes[0].meta.get("shape") if len(output.all_input_nodes) == 1 else None
        return int(shape[1]) if shape is not None and len(shape) == 2 else None

    def units(self, coupling: str) -> tuple[Unit, ...]:
        """The units under a coupling, in forward order."""
        return self._memo(("units", coupling), lambda: units(self.flow, coupling))

    def refusals(self, coupling: str) -> Mapping[str, str]:
        """The convolutions a coupling leaves whole, with the reason."""
        return self._memo(("refusals", coupling), lambda: refusals(self.flow, coupling))

    def unit_of(self, layer: str, coupling: str) -> Unit | None:
        """The unit that moves a layer, or None where the coupling leaves it whole."""
        return next((unit for unit in self.units(coupling) if layer in unit.members), None)


def _described(node: Node, graph: GraphModule) -> str:
    """All that one node does, with its layer's settings; no address of a function, which every process has another."""
    target, layer = node.target, ""
    if callable(target):
        target = f"{getattr(target, '__module__', None)}.{getattr(target, '__qualname__', type(target).__qualname__)}"
    elif node.op == "call_module":
        layer = repr(graph.get_submodule(target))
    return f"{node.op} {node.name} {target} {node.args} {node.kwargs} {layer}\n"
