"""Programs of torch.export as networks of plain layers: the second way in, where torch.fx cannot trace a forward."""

from __future__ import annotations

import contextlib
import io
import logging
import operator
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.fx
from torch import nn
from torch.export import ExportedProgram
from torch.fx.node import map_arg
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from fpgm_core.errors import FpgmError
from fpgm_core.graph.plain_layers import make_plain
from fpgm_core.runtime.locks import FORWARD_LOCK

Node = torch.fx.Node
_BATCH = 2
_ENDLESS = 2**62  # an end that torch.export writes for none


def exported(module: nn.Module, input_shape: tuple[int, int, int]) -> nn.Module:
    """A module as torch.export sees it, for any number of images; raises what that raises, and prints nothing."""
    with FORWARD_LOCK, warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()), _unlogged():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            module.eval(),
            (torch.zeros(_BATCH, *input_shape),),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            strict=False,
        )
    return module_of(program)


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """Have torch.export log nothing of what it could not do: its exception says it."""
    loggers = [logging.getLogger(name) for name in ("torch.export", "torch.fx.experimental.symbolic_shapes")]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        for logger, was in zip(loggers, before, strict=True):
            logger.disabled = was


def module_of(program: ExportedProgram) -> torch.fx.GraphModule:
    """The network that a program of torch.export computes: a module of plain layers, with the program's own names.

    A program that was exported for one number of images is taken for any: where it lays out images by that number, it
    is left open. Raises FpgmError where it does not map one tensor of images (B, C, H, W) to its answer.
    """
    image = _image_of(program)
    source: Any = program.module(check_guards=False)
    graph, made = torch.fx.Graph(), dict[Node, Any]()
    for node in source.graph.nodes:
        if node.op == "placeholder":
            made[node] = graph.placeholder("images")
        elif node.op == "output":
            graph.output(_answer(program, map_arg(node.args[0], made.__getitem__)))
        elif not _is_a_check(node):
            made[node] = _converted(graph, node, made, image)
            made[node].meta["rank"] = getattr(node.meta.get("val"), "ndim", None)
    network = torch.fx.GraphModule(source, graph, "Exported")
    make_plain(network, everything=True)
    network.delete_all_unused_submodules()
    return network.eval()


def shape_of_images(program: ExportedProgram) -> tuple[int, int, int]:
    """(channels, height, width) of the images that a program was exported with."""
    _, *shape = (int(size) for size in _image_of(program).shape)
    return tuple(shape)  # type: ignore[return-value]


def _image_of(program: ExportedProgram) -> torch.Tensor:
    signature = program.graph_signature.user_inputs
    values = [
        node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder" and node.name in signature
    ]
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    if len(tensors) != 1 or tensors[0].ndim != 4:
        raise FpgmError(
            f"the exported program takes {len(tensors)} tensors, or no images (B, C, H, W); export a network of one "
            "tensor of images"
        )
    return tensors[0]


def _answer(program: ExportedProgram, flat: Any) -> Any:
    """The structure that the program answers with; a plain tuple where it is of somebody's own classes."""
    leaves = list(flat) if isinstance(flat, (list, tuple)) else [flat]
    spec = program.call_spec.out_spec
    built = (
        pytree.tree_unflatten(leaves, spec) if spec is not None and spec.num_leaves == len(leaves) else tuple(leaves)
    )
    return built if isinstance(built, (Node, tuple, list, dict)) else tuple(leaves)


def _is_a_check(node: Node) -> bool:
    """Whether a node only asserts something of the program's inputs."""
    name = str(getattr(node.target, "__name__", node.target))
    return not node.users and (name.startswith(("_guards_fn", "_assert", "sym_constrain")) or name in ("_guards_fn",))


def _converted(graph: torch.fx.Graph, node: Node, made: dict[Node, Any], image: torch.Tensor) -> Node:
    """A program's node as the call that people write."""
    args: Any = map_arg(node.args, made.__getitem__)
    kwargs: Any = map_arg(node.kwargs, made.__getitem__)
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return graph.create_node(node.op, node.target, args, kwargs, node.name)
    name = node.target._schema.name.partition("::")[2]
    if name in _SPECIAL:
        return _SPECIAL[name](graph, args, kwargs)
    if name in _LAYOUTS:
        args = (args[0], _open_batch(args[1], node, image), *args[2:])
        return graph.call_method(name, args, kwargs)
    return _called(graph, node, name, args[: _MOST_ARGUMENTS.get(name)], kwargs)


def _called(graph: torch.fx.Graph, node: Node, name: str, args: Any, kwargs: Any) -> Node:
    """A call by the name that the operator has in Python: of a function, of a function in place, or of a method."""
    function = getattr(F, name, None) or getattr(torch, name, None)
    if function is not None and name not in _METHODS:
        made = graph.call_function(function, args, kwargs)
    elif name.endswith("_") and hasattr(F, name[:-1]):
        made = graph.call_function(getattr(F, name[:-1]), args, {**kwargs, "inplace": True})
    elif hasattr(torch.Tensor, name):
        made = graph.call_method(name, args, kwargs)
    else:
        made = graph.call_function(node.target, args, kwargs)  # type: ignore[arg-type]
    return made


def _open_batch(sizes: Any, node: Node, image: torch.Tensor) -> Any:
    """A layout's sizes, the number of images left open where the program was exported for one number."""
    batch, found = image.shape[0], list(getattr(node.meta.get("val"), "shape", ()))
    if isinstance(batch, int) and len(found) > 1 and found[0] == sizes[0] == batch:
        return [-1, *found[1:]]
    return sizes


def _batch_norm(graph: torch.fx.Graph, args: Any, kwargs: Any) -> Node:
    x, weight, bias, mean, var, training, momentum, eps, *_ = args
    return graph.call_function(F.batch_norm, (x, mean, var, weight, bias, training, momentum, eps))


def _slice(graph: torch.fx.Graph, args: Any, kwargs: Any) -> Node:
    given = dict(enumerate(args))
    end = given.get(3)
    part = slice(given.get(2), None if isinstance(end, int) and end >= _ENDLESS else end, given.get(4, 1))
    return graph.call_function(operator.getitem, (given[0], (*[slice(None)] * given.get(1, 0), part)))


def _select(graph: torch.fx.Graph, args: Any, kwargs: Any) -> Node:
    x, dim, index = args
    return graph.call_function(operator.getitem, (x, (*[slice(None)] * dim, index)))


def _dropped(graph: torch.fx.Graph, args: Any, kwargs: Any) -> Node:
    return graph.call_function(F.dropout, (args[0], args[1], args[2]))


def _resized(mode: str) -> Callable[..., Node]:
    def call(graph: torch.fx.Graph, args: Any, kwargs: Any) -> Node:
        x, size, *more = args
        aligned = more.pop(0) if mode != "nearest" and more else None
        factors = more[0] if more else None
        return graph.call_function(
            F.interpolate, (x,), {"size": size, "scale_factor": factors, "mode": mode, "align_corners": aligned}
        )

    return call


def _sized(graph: torch.fx.Graph, args: Any, kwargs: Any) -> Node:
    return graph.call_method("size", args)


def _same(graph: torch.fx.Graph, args: Any, kwargs: Any) -> Node:
    return args[0]


_SPECIAL: dict[str, Callable[..., Node]] = {
    "batch_norm": _batch_norm,
    "slice": _slice,
    "select": _select,
    "dropout": _dropped,
    "dropout_": _dropped,
    "feature_dropout": _dropped,
    "upsample_nearest2d": _resized("nearest"),
    "upsample_bilinear2d": _resized("bilinear"),
    "upsample_bicubic2d": _resized("bicubic"),
    "sym_size": _sized,
    "lift_fresh_copy": _same,
    "alias": _same,
}
_LAYOUTS = ("view", "reshape", "expand")
_METHODS = ("to", "unsqueeze", "contiguous", "repeat", "item", "new_zeros", "new_ones", "new_full")
_MOST_ARGUMENTS = {"layer_norm": 5, "group_norm": 5}  # what the operator takes beyond the function's own
