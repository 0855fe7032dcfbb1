"""The walk: a network traced once, and every operation asked what it does to channels."""

from __future__ import annotations

import copy
import operator
from typing import Any

import numpy as np
import torch
import torch.fx
from torch import nn

from fpgm_core.errors import FpgmError
from fpgm_core.graph.builder import Builder
from fpgm_core.graph.flow import ALWAYS, Flow, Known, Value
from fpgm_core.graph.operations.base import opaque, operation_of, shape_of, whole, written_operand
from fpgm_core.runtime.locks import FORWARD_LOCK


def trace_flow(module: nn.Module, input_shape: tuple[int, int, int], device: str = "meta") -> Flow:
    """Trace a network in eval mode for images of `input_shape` (channels, height, width).

    `device` is where the pass runs that shapes are taken from. "meta" takes neither time nor memory, and refuses a
    network whose shapes depend on the data; but its first use in a process imports two seconds' worth of torch. "cpu"
    is quicker for a small network that is known to be none of those.

    Raises FpgmError where torch.fx cannot trace it at all (its forward depends on the data), or where it
    does not run on such images.
    """
    graph, constants = _trace(module, input_shape, device)
    walk = Builder(graph)
    for node in graph.graph.nodes:
        walk.values[node.name] = _visit(walk, node)
        changed = written_operand(walk.modules, node)
        if changed is not None:
            walk.renamed[changed.name] = node.name
    return walk.flow(constants)


def _trace(
    module: nn.Module, input_shape: tuple[int, int, int], device: str
) -> tuple[torch.fx.GraphModule, dict[str, torch.Tensor]]:
    """The traced network on the meta device, and the tensors it reads that are no parameters and no buffers."""
    try:
        with FORWARD_LOCK:
            graph = torch.fx.symbolic_trace(module)
    except Exception as error:  # torch.fx raises whatever the user's forward raises on a proxy
        raise FpgmError(
            f"torch.fx cannot trace this network ({type(error).__name__}: {error}), so its channels cannot be "
            "followed; remove control flow that depends on the data from its forward"
        ) from error
    held = {name for name, _ in (*module.named_parameters(remove_duplicate=False), *module.named_buffers())}
    read = {str(node.target) for node in graph.graph.nodes if node.op == "get_attr"} - held
    constants = {name: operator.attrgetter(name)(graph) for name in sorted(read)}
    graph = copy.deepcopy(graph).to(device).eval()
    try:
        with FORWARD_LOCK, torch.no_grad():
            _Shapes(graph).run(torch.zeros(1, *input_shape, device=device))
    except Exception as error:
        raise FpgmError(
            f"this network does not run on images of {input_shape} without data ({str(error).splitlines()[0]}); "
            "check the shape, and remove what reads values, such as item(), from its forward"
        ) from error
    return graph.to("meta"), constants  # its tensors are not needed any more


class _Shapes(torch.fx.Interpreter):
    """Runs a network and notes every result's shape, or the shapes of several, as the node's `meta["shape"]`.

    As torch's ShapeProp does, which imports half a second's worth of torch.
    """

    def run_node(self, node: torch.fx.Node) -> Any:
        result = super().run_node(node)
        if isinstance(result, torch.Tensor):
            node.meta["shape"] = result.shape
        elif isinstance(result, (list, tuple)) and any(isinstance(part, torch.Tensor) for part in result):
            node.meta["shape"] = [getattr(part, "shape", None) for part in result]
        return result


def _visit(walk: Builder, node: torch.fx.Node) -> Known:
    """What is known of a node's result; the walk notes what it means for the filters that write it."""
    if node.op == "placeholder":
        return Value(np.full((1, shape_of(node)[1]), ALWAYS))
    inputs: list[Value] = []
    for source in node.all_input_nodes:
        known = walk.of(source)
        inputs += known if isinstance(known, tuple) else [known] if known is not None else []
    if node.op == "output":
        for value in inputs:
            walk.fix(value.sources, "its filters are the network's outputs")
        return None
    if "shape" not in node.meta:
        return None  # a size or another number: no channels
    operation = operation_of(walk.modules, node)
    if operation is None or not operation.reads_weights:
        inputs = [whole(walk, node, value) if value.weighs else value for value in inputs]
    if walk.changes_what_others_read(node):
        for value in inputs:
            walk.fix(value.sources, "a part of its channels is changed in place")
        return opaque(walk, node, inputs)
    spread = any(value.spread for value in inputs) and not (operation and operation.reads_spread)
    known = operation.propagate(walk, node, inputs) if operation and not spread else None
    return known if known is not None else opaque(walk, node, inputs)
