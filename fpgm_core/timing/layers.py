"""The layers whose time depends on their widths, each as a small network of its own at any width."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from fpgm_core.graph import Flow
from fpgm_core.runtime.extras import require
from fpgm_core.timing.onnx_form import INPUT
from fpgm_core.timing.runtimes import Form

_GRID = 16  # widths along one side of the table at most, in steps of a multiple of 4
_STAIRS = 128  # filters up to which every single count is timed
BLOCK = 16  # channels that processors and runtimes take at once, at most: what is off its multiples is slower
_WINDOWS = (0.25, 0.5, 1.0)  # parts of a wider layer below which a block of single counts is timed
_PAIR = tuple[int, int]


@dataclass(frozen=True)
class LayerShape:
    """All that a layer's time depends on beside what is kept of it: its dense widths, its kernel, what it reads.

    `norm` and `relu` say that a batch norm follows it and nothing else reads it, and a ReLU follows that: they are
    timed with it. `groups` is 1, or `inputs` for a depthwise layer, or another number that stays as it is. `size` is
    the input's height and width, or for a Linear layer the dimensions between images and features.
    """

    kind: str
    inputs: int
    outputs: int
    size: tuple[int, ...]
    kernel: _PAIR = (1, 1)
    stride: _PAIR = (1, 1)
    padding: _PAIR = (0, 0)
    dilation: _PAIR = (1, 1)
    groups: int = 1
    bias: bool = False
    norm: bool = False
    relu: bool = False

    @property
    def depthwise(self) -> bool:
        """Whether every filter reads a channel of its own, so that both widths are one."""
        return 1 < self.groups == self.inputs

    @property
    def grid(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The widths of input and output that are timed against each other."""
        return self._steps(self.inputs), self._steps(self.outputs)

    @property
    def points(self) -> tuple[_PAIR, ...]:
        """Every pair of widths, (inputs, outputs), that is timed: the grid, and single counts beside the dense one."""
        if self.depthwise:
            return tuple((count, count) for count in self._counts(self.outputs))
        rows, columns = self.grid
        crossing = [(i, o) for i in rows for o in columns]
        along = [(self.inputs, o) for o in self._counts(self.outputs)]
        across = [(i, self.outputs) for i in self._counts(self.inputs)]
        return tuple(dict.fromkeys([(self.inputs, self.outputs), *crossing, *along, *across]))

    @property
    def told(self) -> str:
        """In a few words: "conv 3x3, 16 to 32, at 32x32"."""
        size = "x".join(map(str, self.size))
        kind = f"conv {self.kernel[0]}x{self.kernel[1]}" if self.kind == "conv" else self.kind
        return f"{kind}, {self.inputs} to {self.outputs}" + (f", at {size}" if size else "")

    @property
    def unit(self) -> int:
        """What widths are multiples of."""
        return 1 if self.depthwise else self.groups

    def _steps(self, width: int) -> tuple[int, ...]:
        unit, step = self.unit, 4
        while width // unit > _GRID * step:
            step *= 2
        return tuple(sorted({unit, *range(step * unit, width, step * unit), width}))

    def _counts(self, width: int) -> tuple[int, ...]:
        unit = self.unit
        if width // unit <= _STAIRS:
            return tuple(range(unit, width + 1, unit))
        ends = [int(width // unit * part) for part in _WINDOWS]
        single = {unit * count for end in ends for count in range(end - BLOCK + 1, end + 1)}
        return tuple(sorted(single.union(self._steps(width))))

    def images(self, inputs: int, batch: int) -> tuple[int, ...]:
        """The shape of what the layer reads."""
        return (batch, inputs, *self.size) if self.kind == "conv" else (batch, *self.size, inputs)

    def form(self, inputs: int, outputs: int) -> Form:
        """The layer with so many channels and filters, as runtimes take it."""
        return Form(self._module(inputs, outputs), lambda: self._onnx(inputs, outputs))

    def _module(self, inputs: int, outputs: int) -> nn.Module:
        if self.kind == "linear":
            return nn.Linear(inputs, outputs, bias=self.bias).eval()
        conv = nn.Conv2d(
            inputs, outputs, self.kernel, self.stride, self.padding, self.dilation,
            groups=inputs if self.depthwise else self.groups, bias=self.bias,
        )  # fmt: skip
        norm, relu = [nn.BatchNorm2d(outputs)] * self.norm, [nn.ReLU()] * self.relu
        return nn.Sequential(conv, *norm, *relu).eval()

    def _onnx(self, inputs: int, outputs: int) -> bytes:
        """The same as ONNX for any batch: weights are constants that the runtime fills in, so that it stays small.

        Runtimes that read ONNX fold norms into convolutions.
        """
        onnx = require("onnx", extra="export")
        helper, floats = onnx.helper, onnx.TensorProto.FLOAT
        groups = inputs if self.depthwise else self.groups
        conv = self.kind == "conv"
        shapes = {"weight": [outputs, inputs // groups, *self.kernel] if conv else [outputs, inputs]}
        if self.bias:
            shapes["bias"] = [outputs]
        filled, nodes, out = [], [], "sum" if self.relu else "out"
        for name, shape in shapes.items():
            filled.append(helper.make_tensor(f"{name}_shape", onnx.TensorProto.INT64, [len(shape)], shape))
            value = helper.make_tensor("value", floats, [1], [1.0 / max(1, int(np.prod(shape[1:])))])
            nodes.append(helper.make_node("ConstantOfShape", [f"{name}_shape"], [name], value=value))
        if conv:
            pads = [*self.padding, *self.padding]
            how = {"strides": self.stride, "pads": pads, "dilations": self.dilation, "group": groups}
            nodes.append(helper.make_node("Conv", [INPUT, *shapes], [out], kernel_shape=self.kernel, **how))
            nodes += [helper.make_node("Relu", [out], ["out"])] * self.relu
        elif self.size:
            nodes += _rows(helper, list(shapes))
        else:
            nodes.append(helper.make_node("Gemm", [INPUT, *shapes], ["out"], transB=1))
        read = helper.make_tensor_value_info(INPUT, floats, ["batch", *self.images(inputs, 1)[1:]])
        written = helper.make_tensor_value_info("out", floats, None)
        graph = helper.make_graph(nodes, "layer", [read], [written], filled)
        opset = [helper.make_opsetid("", 18)]
        return bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())


def _rows(helper: Any, names: list[str]) -> list[Any]:
    """A Linear layer applied at every position."""
    nodes = [
        helper.make_node("Transpose", ["weight"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", [INPUT, "turned"], ["product" if "bias" in names else "out"]),
    ]
    return [*nodes, helper.make_node("Add", ["product", "bias"], ["out"])] if "bias" in names else nodes


def layer_shapes(flow: Flow) -> tuple[LayerShape | None, ...]:
    """The shape of every site of a flow, in its order; None for those of which no table is made.

    Those are transposed convolutions, padding other than by zeros of a given number, and layers that are no modules:
    they count among the rest of the network.
    """
    seen: dict[str, list[torch.fx.Node]] = {}
    for node in flow.graph.graph.nodes:
        if node.op == "call_module":
            seen.setdefault(str(node.target), []).append(node)
    found, used = list[LayerShape | None](), dict[str, int]()
    for site in flow.sites:
        nodes, turn = seen.get(site.name, []), used.get(site.name, 0)
        used[site.name] = turn + 1
        found.append(_shape_of(flow, nodes[turn]) if turn < len(nodes) else None)
    return tuple(found)


def _shape_of(flow: Flow, node: torch.fx.Node) -> LayerShape | None:
    module, read = flow.graph.get_submodule(str(node.target)), node.args[0] if node.args else None
    shape = tuple(read.meta.get("shape", ())) if isinstance(read, torch.fx.Node) else ()
    if isinstance(module, nn.Linear) and len(shape) >= 2:
        size = tuple(int(n) for n in shape[1:-1])
        return LayerShape("linear", module.in_features, module.out_features, size, bias=module.bias is not None)
    if type(module) is not nn.Conv2d or len(shape) != 4 or module.padding_mode != "zeros":
        return None
    if isinstance(module.padding, str):
        return None
    pairs = [(int(two[0]), int(two[1])) for two in
             (module.kernel_size, module.stride, module.padding, module.dilation)]  # fmt: skip
    kernel, stride, padding, dilation = pairs
    if module.groups > 1 and module.groups == module.in_channels != module.out_channels:
        return None  # several filters a channel
    norm, relu = _followers(flow, node)
    return LayerShape(
        "conv", module.in_channels, module.out_channels, (int(shape[2]), int(shape[3])), kernel, stride, padding,
        dilation, module.groups, module.bias is not None, norm, relu,
    )  # fmt: skip


def _followers(flow: Flow, node: torch.fx.Node) -> tuple[bool, bool]:
    """Whether a batch norm alone reads a layer's node, and whether a ReLU alone reads what comes then."""

    def next_of(node: torch.fx.Node) -> tuple[torch.fx.Node | None, Any]:
        if len(node.users) != 1:
            return None, None
        (user,) = node.users
        return user, flow.graph.get_submodule(str(user.target)) if user.op == "call_module" else user.target

    user, what = next_of(node)
    norm = isinstance(what, nn.BatchNorm2d)
    if norm and user is not None:
        user, what = next_of(user)
    return norm, isinstance(what, nn.ReLU) or what in (F.relu, torch.relu, "relu", "relu_")
