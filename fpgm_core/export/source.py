"""A compact network as one Python file that needs nothing but PyTorch."""

from __future__ import annotations

import inspect
import re
import textwrap
from typing import Any

import torch
import torch.fx
from torch import nn

from fpgm_core.errors import FpgmError
from fpgm_core.graph import overlay

_HEADER = '''"""{title}

Rebuilds a compact network without the library that made it:

    network = load("{weights}")
    logits = network(images)  # float32 (B, {shape})
"""

import torch
from torch import nn

inf, nan = float("inf"), float("nan")


class {name}(nn.Module):
    """The network; its layers carry the names they have in the dense one."""

    def __init__(self):
        super().__init__()
{layers}

{forward}

def _put(root, name, part):
    """Hang a module, parameter or buffer under a dotted name, with plain containers between."""
    *parents, leaf = name.split(".")
    for parent in parents:
        if parent not in root._modules:
            root.add_module(parent, nn.Module())
        root = root._modules[parent]
    if isinstance(part, nn.Parameter):
        root.register_parameter(leaf, part)
    elif isinstance(part, torch.Tensor):
        root.register_buffer(leaf, part)
    else:
        root.add_module(leaf, part)


def load(path="{weights}"):
    """The network with its weights, in eval mode; the file is safetensors."""
    from safetensors.torch import load_file

    network = {name}()
    network.load_state_dict(load_file(path))
    return network.eval()
'''
_NORMS = (nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)
_PLAIN = (int, float, bool, str, type(None))


def python_source(module: torch.fx.GraphModule, title: str, weights: str, input_shape: tuple[int, ...]) -> str:
    """A Python file that rebuilds a compact network from its state dict in the file `weights`.

    Raises FpgmError where the network runs something outside PyTorch, or a module that is not one of
    torch.nn's own with arguments that can be written down.
    """
    layers = [_layer(str(node.target), module) for node in module.graph.nodes if node.op == "call_module"]
    tensors = [_tensor(str(node.target), module) for node in module.graph.nodes if node.op == "get_attr"]
    code = module.graph.python_code("self")
    foreign = sorted(
        f"{value.__module__}.{name}"
        for name, value in code.globals.items()
        if callable(value) and not str(getattr(value, "__module__", "")).startswith(("torch", "builtins", "_operator"))
    )
    if foreign:
        raise FpgmError(f"this network runs {foreign[0]}, which is not PyTorch's; export it as .pt2 or ONNX")
    forward = re.sub(r"self, (\w+)[^)]*\)[^:]*:", r"self, \1):", code.src.strip(), count=1)
    body = "\n".join(dict.fromkeys([*layers, *tensors]))
    return _HEADER.format(
        title=title.replace("\\", "/").replace('"', "'"),
        weights=weights,
        shape=", ".join(map(str, input_shape)),
        name="Compact",
        layers=textwrap.indent(body, " " * 8),
        forward=textwrap.indent(forward, " " * 4),
    )


def _layer(name: str, module: nn.Module) -> str:
    layer = module.get_submodule(name)
    if layer._modules and isinstance(layer, _NORMS):  # what stands below it is called, and written, by itself
        layer = overlay(layer, {})
        layer._modules = {}
    return f'_put(self, "{name}", nn.{type(layer).__name__}({_arguments(name, layer)}))'


def _arguments(name: str, layer: nn.Module) -> str:
    """The arguments that build a torch.nn module, read off its attributes of the same names."""
    if not type(layer).__module__.startswith("torch.nn") or layer._modules:
        raise FpgmError(f"{name} ({type(layer).__name__}) cannot be written down; export it as .pt2 or ONNX")
    given = []
    for parameter in inspect.signature(type(layer).__init__).parameters.values():
        if parameter.name in ("self", "device", "dtype") or parameter.kind in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        ):
            continue
        value = getattr(layer, parameter.name, parameter.default)
        if isinstance(value, torch.Tensor) or (value is None and parameter.name == "bias"):
            value = value is not None
        if not _is_plain(value):
            raise FpgmError(f"{name} ({type(layer).__name__}) has a {parameter.name} that cannot be written down")
        if value != parameter.default:
            given.append(f"{parameter.name}={value!r}")
    return ", ".join(given)


def _is_plain(value: Any) -> bool:
    return isinstance(value, _PLAIN) or (isinstance(value, (tuple, list)) and all(map(_is_plain, value)))


def _tensor(name: str, module: nn.Module) -> str:
    parent, _, leaf = name.rpartition(".")
    tensor = getattr(module.get_submodule(parent), leaf)
    empty = f"torch.zeros({tuple(tensor.shape)}, dtype={tensor.dtype})"
    return f'_put(self, "{name}", {f"nn.Parameter({empty})" if isinstance(tensor, nn.Parameter) else empty})'
