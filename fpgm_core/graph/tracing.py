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
from fpgm_core.graph.spelling import spell
from fpgm_core.graph.tracer import trace, where
from fpgm_core.runtime.locks import FORWARD_LOCK


def trace_flow(
    module: nn.Module,
    input_shape: tuple[int, int, int],
    device: str = "meta",
    *,
    traced: torch.fx.GraphModule | None = None,
) -> Flow:
    """Trace a network in eval mode for images of `input_shape` (channels, height, width).

    `device` is where the pass runs that shapes are taken from. "meta" takes neither time nor memory, and refuses a
    network whose shapes depend on the data; but its first use in a process imports two seconds' worth of torch. "cpu"
    is quicker for a small network that is known to be none of those. `traced` is the network's trace, where that is at
    hand.

    Raises FpgmError where torch.fx cannot trace it at all (its forward depends on the data), or where it
    does not run on such images.
    """
    graph = _trace(module, input_shape) if traced is None else traced
    held = {name for name, _ in (*module.named_parameters(remove_duplicate=False), *module.named_buffers())}
    read = {str(node.target) for node in graph.graph.nodes if node.op == "get_attr"} - held
    constants = {name: operator.attrgetter(name)(graph) for name in sorted(read)}
    whole_numbers = {name: buffer for name, buffer in module.named_buffers() if not buffer.is_floating_point()}
    graph = _with_shapes(graph, input_shape, device)
    _read_what_was_written(graph)
    walk = Builder(graph, {**constants, **whole_numbers})
    for node in graph.graph.nodes:
        walk.values[node.name] = _visit(walk, node)
    return walk.flow(constants)


def _read_what_was_written(graph: torch.fx.GraphModule) -> None:
    """Have whoever reads a tensor after it was changed in place read what changed it: the same memory, said once."""
    modules = dict(graph.named_modules(remove_duplicate=False))
    order = {node: place for place, node in enumerate(graph.graph.nodes)}
    for node in graph.graph.nodes:
        changed = written_operand(modules, node)
        if changed is not None:
            for user in [user for user in changed.users if order[user] > order[node]]:
                user.replace_input_with(changed, node)
    graph.recompile()


def _trace(module: nn.Module, input_shape: tuple[int, int, int]) -> torch.fx.GraphModule:
    try:
        with FORWARD_LOCK:
            return trace(module, input_shape)
    except Exception as error:  # torch.fx raises whatever the user's forward raises on a proxy
        raise FpgmError(
            f"this network cannot be traced ({type(error).__name__}: {_first_line(error)}{where(error)}), so its "
            "channels cannot be followed; remove what depends on the data from its forward"
        ) from error


def _with_shapes(graph: torch.fx.GraphModule, input_shape: tuple[int, int, int], device: str) -> torch.fx.GraphModule:
    """A traced network on the meta device, every result's shape noted."""
    graph = copy.deepcopy(graph).to(device).eval()
    try:
        with FORWARD_LOCK, torch.no_grad():
            _note_shapes(graph, input_shape, device)
            if spell(graph):
                _note_shapes(graph, input_shape, device)
    except Exception as error:
        raise FpgmError(
            f"this network does not run on images of {input_shape} without data ({_first_line(error)}); "
            "check the shape, and remove what reads values, such as item(), from its forward"
        ) from error
    return graph.to("meta")  # its tensors are not needed any more


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "")


def _note_shapes(graph: torch.fx.GraphModule, input_shape: tuple[int, int, int], device: str) -> None:
    """Note every result's shape for one image, or the shapes of several, as the node's `meta["shape"]`.

    As torch's ShapeProp does, which imports half a second's worth of torch. On no data the network runs for two and for
    three images, so that a dimension of images is told from one of size 1: `meta["images"]` are the dimensions whose
    size follows them. `meta["macs"]` are an image's multiply-adds of what has no rule for them, `meta["number"]` is a
    whole number that is the same for any images, and `meta["several"]` says that a result is neither a tensor nor a
    number.
    """
    if device != "meta":  # a network that is known
        _Shapes(graph).run(torch.zeros(1, *input_shape, device=device))
        return
    runs = [_Shapes(graph) for _ in range(2)]
    for run, images in zip(runs, (2, 3), strict=True):
        with torch.device(device):  # for tensors that the forward makes of nothing
            run.run(torch.zeros(images, *input_shape))
    for node in graph.graph.nodes:
        found = [run.shapes.get(node) for run in runs]
        if isinstance(found[0], list):
            node.meta["shape"] = [_of_one(*pair) for pair in zip(*found, strict=True)]
        elif found[0] is not None:
            node.meta["shape"] = _of_one(*found)
            node.meta["images"] = [dim for dim, (m, n) in enumerate(zip(*found, strict=True)) if m != n]
        numbers = [run.numbers.get(node) for run in runs]
        if numbers[0] is not None and numbers[0] == numbers[1]:
            node.meta["number"] = numbers[0]
        node.meta["macs"] = 2 * runs[0].macs.get(node, 0) - runs[1].macs.get(node, 0)


def _of_one(two: Any, three: Any) -> torch.Size | None:
    """A shape for one image from those for two and for three."""
    return None if two is None else torch.Size(2 * m - n for m, n in zip(two, three, strict=True))


class _Shapes(torch.fx.Interpreter):
    """Runs a network and notes shapes and multiply-adds by node."""

    def __init__(self, graph: torch.fx.GraphModule) -> None:
        super().__init__(graph)
        self.shapes: dict[torch.fx.Node, Any] = {}
        self.macs: dict[torch.fx.Node, int] = {}
        self.numbers: dict[torch.fx.Node, int] = {}
        self._modules = dict(graph.named_modules(remove_duplicate=False))

    def run_node(self, node: torch.fx.Node) -> Any:
        result = self._counted(node) if node.op.startswith("call") else super().run_node(node)
        if isinstance(result, torch.Tensor):
            self.shapes[node] = node.meta["shape"] = result.shape
        elif isinstance(result, (list, tuple)) and any(isinstance(part, torch.Tensor) for part in result):
            self.shapes[node] = node.meta["shape"] = [getattr(part, "shape", None) for part in result]
        elif type(result) is int:
            self.numbers[node] = result
        elif not isinstance(result, _NUMBERS):
            node.meta["several"] = True
        return result

    def _counted(self, node: torch.fx.Node) -> Any:
        operation = operation_of(self._modules, node)
        if operation is not None and operation.counted:
            return super().run_node(node)
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            result = super().run_node(node)
        self.macs[node] = counter.get_total_flops() // 2
        return result


def _lay_out(walk: Builder, node: torch.fx.Node) -> None:
    """Have an operation that takes one dimension for the channels' read what lies over several in that way."""
    operation = operation_of(walk.modules, node)
    if operation is None or operation.reads_spread:
        return
    for source in node.all_input_nodes:
        known = walk.of(source)
        if isinstance(known, Value) and known.spread and known.batch == 0 and known.index is not None:
            dim = operation.channel_dim(walk, node, source)
            if dim is not None:
                walk.lay_out(node, source, dim)


_NUMBERS = (int, float, bool, str, torch.Size, torch.dtype, torch.device, type(None), torch.memory_format, tuple, list)


def _visit(walk: Builder, node: torch.fx.Node) -> Known:
    """What is known of a node's result; the walk notes what it means for the filters that write it."""
    if node.op == "placeholder":
        if len(shape_of(node)) < 2:  # an argument beside the images that nobody gives, a mask say
            return None
        return Value(np.full((1, shape_of(node)[1]), ALWAYS))
    _lay_out(walk, node)
    inputs: list[Value] = []
    for source in node.all_input_nodes:
        known = walk.of(source)
        inputs += known if isinstance(known, tuple) else [known] if known is not None else []
    if node.op == "output":
        for value in inputs:
            walk.fix(value.sources, "its filters are the network's outputs")
        return None
    if "shape" not in node.meta:
        for value in inputs if node.meta.get("several") else ():
            walk.fix(value.sources, f"its channels enter {node.name}, which is neither a tensor nor a number")
        return None  # a size or another number: no channels
    operation = operation_of(walk.modules, node)
    if operation is not None and not operation.reads_unwritten and all(value.unwritten for value in inputs):
        operation = None  # an image, a parameter of any shape: nothing to follow
    if operation is None or not operation.reads_weights:
        inputs = [whole(walk, node, value) if value.weighs else value for value in inputs]
    if walk.changes_what_others_read(node):
        for value in inputs:
            walk.fix(value.sources, "a part of its channels is changed in place")
        operation = None
    spread = any(value.spread for value in inputs) and not (operation and operation.reads_spread)
    sites = len(walk.sites)
    known = operation.propagate(walk, node, inputs) if operation and not spread else None
    if isinstance(known, Value) and not known.unwritten and node.meta.get("images", [known.batch]) != [known.batch]:
        known = None  # images and channels, or positions, in one dimension
    if len(walk.sites) == sites and node.meta.get("macs"):
        walk.other_macs[node.name] = node.meta["macs"]
    return known if known is not None else opaque(walk, node, inputs)
