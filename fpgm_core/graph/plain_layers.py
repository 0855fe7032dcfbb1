"""Plain layers in the place of functions of parameters: weights that a forward makes, norms written out, exports."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn
from torch.fx.node import map_arg
from torch.nn import functional as F

from fpgm_core.graph.operations.base import argument

Node = torch.fx.Node


@dataclass(frozen=True)
class _Form:
    """How a function's call becomes a layer: where its tensors and settings stand, and what builds the layer.

    `tensors` are the layer's own, by name and position; `settings` are (position, name, default), handed to `build`
    with the tensors' sizes. A layer with `always` is put in the place of every call, others where the weight is made.
    """

    tensors: tuple[tuple[str, int], ...]
    settings: tuple[tuple[int, str, Any], ...]
    build: Callable[[Sequence[Any], Any], nn.Module]
    always: bool = False


def make_plain(traced: torch.fx.GraphModule, everything: bool = False) -> bool:
    """Put plain layers into a traced network, in place, where its forward calls functions of parameters; whether any.

    Weights that a forward makes of parameters (weight standardisation, say) become what eval mode has them, under the
    names of the parameters they are made of; group and layer norms that are called as functions become modules. So do
    functions whose parameters are no module's weight and bias: called as what holds these alone, or after the first.
    Other functions stay, which removal follows as they are, unless `everything` is asked for.
    """
    calls: dict[str, list[Node]] = {}
    reads = Counter(str(node.target) for node in traced.graph.nodes if node.op == "get_attr" for _ in node.users)
    for node in traced.graph.nodes:
        if node.op != "call_function" or node.target not in _FORMS:
            continue
        form = _FORMS[node.target]
        given = {name: argument(node, at, name) for name, at in form.tensors}
        owner = _owner(given) if everything or form.always or _is_made(argument(node, 1, "weight")) else None
        calls.setdefault(owner or _own_name(traced, given, reads), []).append(node)
    calls.pop("", None)
    changed = sum(_bake(traced, owner, nodes) for owner, nodes in calls.items()) > 0  # every one, not up to the first
    if changed:
        traced.delete_all_unused_submodules()
        traced.recompile()
    return changed


def _own_name(traced: torch.fx.GraphModule, given: dict[str, Any], reads: Counter[str]) -> str:
    """What to call the layer of parameters that no other call reads; "" where they are a module's under known names."""
    paths = {name: str(node.target) for name, node in given.items() if isinstance(node, Node) and node.op == "get_attr"}
    there = sum(node is not None for node in given.values())
    first = next(iter(paths.values()), "")
    if len(paths) < there or any(reads[path] != 1 for path in paths.values()) or not _is_learned(traced, paths):
        return ""
    owner = _owner(given)
    if owner is not None and all(path == f"{owner}.{name}" for name, path in paths.items()):
        return ""
    if owner is not None and {f"{owner}.{name}" for name in traced.get_submodule(owner).state_dict()} == {
        *paths.values()
    }:
        return owner
    name = first.replace(".", "_")
    taken = {*dict(traced.named_modules()), *traced._buffers}
    while name in taken or (name in traced._parameters and name != first):
        name += "_"
    return name


def _is_learned(traced: torch.fx.GraphModule, paths: dict[str, str]) -> bool:
    """Whether a call's tensors are a layer's: its weight a parameter, or its statistics given."""
    weight = operator.attrgetter(paths["weight"])(traced) if "weight" in paths else None
    return "running_mean" in paths or isinstance(weight, nn.Parameter)


def _is_made(node: Any) -> bool:
    """Whether a tensor is computed, and of no image."""
    return isinstance(node, Node) and node.op.startswith("call") and _tensors_behind(node) is not None


def _tensors_behind(node: Node) -> list[str] | None:
    """The tensors that a node is computed of, by name; None where an image is among them."""
    found, ahead, seen = dict[str, None](), [node], set[Node]()
    while ahead:
        current = ahead.pop()
        if current.op == "placeholder":
            return None
        if current.op == "get_attr":
            found[str(current.target)] = None
        if current not in seen:
            seen.add(current)
            ahead += current.all_input_nodes
    return list(found)


def _bake(traced: torch.fx.GraphModule, owner: str, nodes: Sequence[Node]) -> bool:
    """Put one plain layer in the place of all calls with a module's tensors; False where it cannot stand for them."""
    if _is_used_otherwise(traced, owner, nodes):
        return False
    layers = [_layer(traced, node) for node in nodes]
    if any(layer is None or not _alike(layer, layers[0]) for layer in layers):
        return False
    _put(traced, owner, layers[0].eval())  # type: ignore[union-attr]
    for node in nodes:
        with traced.graph.inserting_before(node):
            node.replace_all_uses_with(traced.graph.call_module(owner, (argument(node, 0, "input"),)))
        forget(traced.graph, node)
    return True


def _is_used_otherwise(traced: torch.fx.GraphModule, owner: str, calls: Sequence[Node]) -> bool:
    """Whether a forward calls a module by itself, or reads its tensors for anything but these calls."""
    ahead, seen = list[Node](), set[Node](calls)
    for node in traced.graph.nodes:
        if node.op == "call_module" and node.target == owner:
            return True
        if node.op == "get_attr" and str(node.target).rpartition(".")[0] == owner:
            ahead.append(node)
    while ahead:
        for user in ahead.pop().users:
            if user.op == "output" or (user not in seen and _tensors_behind(user) is None):
                return True
            if user not in seen:
                seen.add(user)
                ahead.append(user)
    return False


def _alike(first: nn.Module, second: nn.Module | None) -> bool:
    """Whether two layers compute the same."""
    if type(first) is not type(second) or repr(first) != repr(second):
        return False
    assert second is not None
    one, other = first.state_dict(), second.state_dict()
    return set(one) == set(other) and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def _layer(traced: torch.fx.GraphModule, node: Node) -> nn.Module | None:
    """The plain layer that one call is; None where its settings are not known."""
    form = _FORMS[node.target]
    given = {name: argument(node, at, name) for name, at in form.tensors}
    settings = [argument(node, at, name, default) for at, name, default in form.settings]
    if any(isinstance(one, Node) for one in settings):
        return None
    with torch.no_grad():
        tensors = {name: None if one is None else _value(traced, one).detach().clone() for name, one in given.items()}
    layer = form.build(settings, tensors)
    if isinstance(layer, nn.BatchNorm2d) and node.meta.get("rank") in (2, 3):
        layer.__class__ = nn.BatchNorm1d  # type: ignore[assignment]
    for name, tensor in tensors.items():
        if name in layer._buffers:
            layer._buffers[name] = tensor
        else:
            layer.register_parameter(name, None if tensor is None else nn.Parameter(tensor, requires_grad=False))
    return layer


def _owner(given: dict[str, Any]) -> str | None:
    """The one module whose tensors these are, or are made of; None where an image is among them."""
    owners = set[str]()
    for node in given.values():
        names = _tensors_behind(node) if isinstance(node, Node) else None
        if names is None and node is not None:
            return None
        owners |= {name.rpartition(".")[0] for name in names or ()}
    return next(iter(owners)) or None if len(owners) == 1 else None


def _put(traced: torch.fx.GraphModule, owner: str, layer: nn.Module) -> None:
    """Have the network hold a layer under its owner's name."""
    traced._parameters.pop(owner, None)  # which the layer has now
    if owner in dict(traced.named_modules()):
        for name, child in traced.get_submodule(owner).named_children():  # an activation, which the forward calls
            layer.add_module(name, child)
    traced.add_submodule(owner, layer)


def forget(graph: torch.fx.Graph, node: Node) -> None:
    """Erase a call that nothing asks for any more, and what was computed for it alone."""
    behind, ahead = set[Node](), [node]
    while ahead:
        current = ahead.pop()
        if current not in behind and current.op != "placeholder":
            behind.add(current)
            ahead += current.all_input_nodes
    for one in reversed(graph.nodes):
        if one in behind and not one.users:
            graph.erase_node(one)


def _value(traced: torch.fx.GraphModule, node: Node) -> Any:
    """What a node without images is."""
    if node.op == "get_attr":
        return operator.attrgetter(str(node.target))(traced)
    args: Any = map_arg(node.args, lambda one: _value(traced, one))
    kwargs: Any = map_arg(node.kwargs, lambda one: _value(traced, one))
    if node.op == "call_module":
        return traced.get_submodule(str(node.target))(*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    return node.target(*args, **kwargs)  # type: ignore[operator]


def _convolution(settings: Sequence[Any], tensors: dict[str, Tensor]) -> nn.Module:
    (stride, padding, dilation, groups), weight = settings, tensors["weight"]
    kernel: Any = tuple(weight.shape[2:])
    inputs, outputs = weight.shape[1] * groups, weight.shape[0]
    kind: Any = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(kernel) - 1]
    return kind(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False, device="meta")


def _transposed(settings: Sequence[Any], tensors: dict[str, Tensor]) -> nn.Module:
    (stride, padding, more, groups, dilation), weight = settings, tensors["weight"]
    kernel: Any = tuple(weight.shape[2:])
    inputs, outputs = weight.shape[0], weight.shape[1] * groups
    kind: Any = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[len(kernel) - 1]
    return kind(inputs, outputs, kernel, stride, padding, more, groups, False, dilation, device="meta")


def _linear(settings: Sequence[Any], tensors: dict[str, Tensor]) -> nn.Module:
    outputs, inputs = tensors["weight"].shape
    return nn.Linear(inputs, outputs, bias=False, device="meta")


def _batch_norm(settings: Sequence[Any], tensors: dict[str, Tensor]) -> nn.Module:
    training, momentum, eps = settings
    norm = nn.BatchNorm2d(len(tensors["running_mean"]), eps, momentum, affine=tensors.get("weight") is not None)
    return norm.train(bool(training))


def _group_norm(settings: Sequence[Any], tensors: dict[str, Tensor]) -> nn.Module:
    groups, eps = settings
    return nn.GroupNorm(groups, len(tensors["weight"]), eps)


def _layer_norm(settings: Sequence[Any], tensors: dict[str, Tensor]) -> nn.Module:
    return nn.LayerNorm(tuple(settings[0]), settings[1])


_KERNELS = (("weight", 1), ("bias", 2))
_STRIDES = ((3, "stride", 1), (4, "padding", 0))
_AFTER_SIZE = (("weight", 2), ("bias", 3))
_STATISTICS = (("running_mean", 1), ("running_var", 2), ("weight", 3), ("bias", 4))
_FORMS: dict[Any, _Form] = {
    F.conv2d: _Form(_KERNELS, (*_STRIDES, (5, "dilation", 1), (6, "groups", 1)), _convolution),
    **{
        function: _Form(_KERNELS, (*_STRIDES, (5, "dilation", 1), (6, "groups", 1)), _convolution, always=True)
        for function in (F.conv1d, F.conv3d)
    },
    **{
        function: _Form(
            _KERNELS,
            (*_STRIDES, (5, "output_padding", 0), (6, "groups", 1), (7, "dilation", 1)),
            _transposed,
            always=True,
        )
        for function in (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
    },
    F.linear: _Form(_KERNELS, (), _linear),
    F.batch_norm: _Form(_STATISTICS, ((5, "training", False), (6, "momentum", 0.1), (7, "eps", 1e-5)), _batch_norm),
    F.group_norm: _Form(_AFTER_SIZE, ((1, "num_groups", 1), (4, "eps", 1e-5)), _group_norm, always=True),
    F.layer_norm: _Form(_AFTER_SIZE, ((1, "normalized_shape", ()), (4, "eps", 1e-5)), _layer_norm, always=True),
}
