"""Where the time of a pass goes, by the runtime's own profiler: node by node, each of a layer or of what lies between.

ONNX Runtime writes its profile as JSON; PyTorch's is torch.profiler, around every node of the compact network's graph.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.fx
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function

from fpgm_core.errors import FpgmError
from fpgm_core.runtime.extras import require
from fpgm_core.timing.engine import held
from fpgm_core.timing.runtimes import Form, Target, onnx_session

PASSES = 30
_MARK = "fpgm:"
_MOVES = (
    "Pad", "Gather", "Slice", "Concat", "Transpose", "ScatterND", "ScatterElements", "ReorderInput", "ReorderOutput",
    "index_select", "pad", "getitem", "cat", "index_add",
)  # fmt: skip
_SUFFIXES = ("_kernel_time", "_nchwc")


@dataclass(frozen=True)
class Node:
    """One operation of a pass: what it is called, the layer whose work it does ("" for none), and its milliseconds."""

    operation: str
    layer: str
    ms: float

    @property
    def moves(self) -> bool:
        """Whether it computes nothing: it places, copies or reorders channels."""
        return self.operation in _MOVES


@dataclass(frozen=True)
class Profile:
    """The nodes of a pass in their order, medians over several passes, and a whole pass's milliseconds."""

    nodes: tuple[Node, ...]
    ms: float

    @property
    def overhead(self) -> float:
        """Milliseconds of a pass between nodes: what starting so many operations costs."""
        return max(0.0, self.ms - sum(node.ms for node in self.nodes))

    def of_layers(self) -> dict[str, float]:
        """Milliseconds by layer."""
        found = dict[str, float]()
        for node in self.nodes:
            if node.layer:
                found[node.layer] = found.get(node.layer, 0.0) + node.ms
        return found


def profile_of(form: Form, images: Tensor, target: Target, layers: Collection[str]) -> Profile:
    """The profile of a network's form over images; `layers` are the names of its layers.

    Raises FpgmError for a runtime without a profiler that is read here.
    """
    if target.runtime not in _PROFILERS:
        raise FpgmError(
            f"{target.record.title} has no profiler that is read here; choose one of {', '.join(_PROFILERS)}"
        )
    assert target.threads is not None
    with held(target.threads):
        return _PROFILERS[target.runtime](form, images, target, layers)


def _pytorch(form: Form, images: Tensor, target: Target, layers: Collection[str]) -> Profile:
    module = form.placed(torch.device("cpu"))
    if not isinstance(module, torch.fx.GraphModule):
        raise FpgmError("PyTorch's profile is read of compact networks; give one")
    placed = images.to(memory_format=torch.channels_last)
    runs = _Marked(module)
    with torch.inference_mode():
        whole = _median_pass(lambda: module(placed))
        runs.run(placed)
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            for _ in range(PASSES):
                runs.run(placed)
    found = dict[str, list[float]]()
    for event in profiler.events() or ():
        if event.name.startswith(_MARK):
            found.setdefault(event.name.removeprefix(_MARK), []).append(event.cpu_time_total / 1000)
    nodes = []
    for node in module.graph.nodes:
        if node.name in found:
            layer = str(node.target) if node.op == "call_module" and node.target in layers else ""
            nodes.append(Node(_operation(module, node), layer, float(np.median(found[node.name]))))
    return Profile(tuple(nodes), whole)


class _Marked(torch.fx.Interpreter):
    """Runs a graph with a mark around every node that computes."""

    def run_node(self, n: torch.fx.Node) -> Any:
        if n.op in ("placeholder", "output", "get_attr"):
            return super().run_node(n)
        with record_function(f"{_MARK}{n.name}"):
            return super().run_node(n)


def _operation(module: nn.Module, node: torch.fx.Node) -> str:
    if node.op == "call_module":
        return type(module.get_submodule(str(node.target))).__name__
    return str(getattr(node.target, "__name__", node.target))


def _onnx(form: Form, images: Tensor, target: Target, layers: Collection[str]) -> Profile:
    assert target.threads is not None
    names = _layers_in(form.onnx, layers)
    with tempfile.TemporaryDirectory() as folder:
        session = onnx_session(form.onnx, target.threads, profile=str(Path(folder) / "profile"))
        fed = {session.get_inputs()[0].name: images.contiguous().numpy()}
        for _ in range(PASSES + 1):
            session.run(None, fed)
        events = json.loads(Path(session.end_profiling()).read_text())
    plain = onnx_session(form.onnx, target.threads)
    whole = _median_pass(lambda: plain.run(None, fed))
    found = dict[str, tuple[str, list[float]]]()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_SUFFIXES[0]):
            found.setdefault(event["name"], (event["args"]["op_name"], []))[1].append(event["dur"] / 1000)
    nodes = [
        Node(operation, names.get(_bare(name), ""), float(np.median(taken[1:] or taken)))
        for name, (operation, taken) in found.items()
    ]
    return Profile(tuple(nodes), whole)


def _bare(name: str) -> str:
    """The name of a node without what the runtime's own passes add to it."""
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name.removeprefix("fused ")


def _layers_in(content: bytes, layers: Collection[str]) -> dict[str, str]:
    """Which layer's work a node does: by the names of the node, of what it writes, and of the ReLU it is fused with."""
    graph = require("onnx", extra="export").load_from_string(content).graph
    readers = {name: node for node in graph.node for name in node.input}
    found = dict[str, str]()
    for node in graph.node:
        layer = next(
            (name.removesuffix(".weight") for name in node.input if name.removesuffix(".weight") in layers), ""
        )
        if layer:
            reader = readers.get(node.output[0])
            fused = [reader.name, reader.output[0]] if reader is not None and reader.op_type == "Relu" else []
            found |= dict.fromkeys([node.name, node.output[0], *fused], layer)
    return found


def _median_pass(work: Callable[[], object]) -> float:
    """Milliseconds of a pass, the median of several after one that does not count."""
    taken = []
    for _ in range(PASSES + 1):
        begun = time.perf_counter()
        work()
        taken.append((time.perf_counter() - begun) * 1000)
    return float(np.median(taken[1:]))


_PROFILERS: Mapping[str, Callable[[Form, Tensor, Target, Collection[str]], Profile]] = {
    "pytorch": _pytorch,
    "onnxruntime": _onnx,
}
