"""Somebody's module as a network has it: copied, with ordinary weights, traced, and what it is a part of."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from fpgm_core.errors import FpgmError
from fpgm_core.graph import bake_in, opened
from fpgm_core.pruning.surroundings import Surroundings, surroundings_of
from fpgm_core.runtime.progress import Progress

Shape = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class OpenedModule:
    """A module that can be pruned, what its forward comes to where it was traced, and what it lies in.

    `kind` is the name of the class that was given.
    """

    module: nn.Module
    input_shape: Shape
    traced: GraphModule | None
    surroundings: Surroundings | None
    kind: str


def open_module(
    given: Any,
    input_shape: Shape | None,
    *,
    example_input: Tensor | None,
    part: str | None,
    seconds: float,
    on_progress: Callable[[Progress], object] | None,
) -> OpenedModule:
    """Copy and trace a module, or a program of torch.export; the arguments are those of `Network.from_module`.

    Raises FpgmError for what is no module, cannot be copied or traced, and without the shape of its images.
    """
    module, shape = _module_of(given, input_shape)
    shape = _checked_shape(shape, example_input)
    copied = _copied(module).to("cpu", torch.float32).requires_grad_(False)
    surroundings = surroundings_of(copied, part)
    if surroundings is not None:
        copied = copied.get_submodule(surroundings.part)
    opened_module, traced = opened(copied, shape, seconds=seconds, on_progress=on_progress)
    return OpenedModule(opened_module, shape, traced, surroundings, type(module).__name__)


def _module_of(given: Any, input_shape: Shape | None) -> tuple[nn.Module, Shape | None]:
    """The module that was given, and the shape of its images as far as it is known."""
    if type(given).__name__ == "ExportedProgram":
        from fpgm_core.graph import exported  # brings torch.export and sympy

        return exported.module_of(given), input_shape or exported.shape_of_images(given)
    while isinstance(given, (nn.DataParallel, nn.parallel.DistributedDataParallel)) or hasattr(given, "_orig_mod"):
        given = given.module if hasattr(given, "module") else given._orig_mod  # what only runs it otherwise
    if isinstance(given, torch.jit.ScriptModule):
        raise FpgmError("a scripted module cannot be followed; give the module that it was made of")
    if not isinstance(given, nn.Module):
        raise FpgmError(f"{type(given).__name__} is not a torch.nn.Module; give the network itself")
    scripted = next((name for name, part in given.named_modules() if isinstance(part, torch.jit.ScriptModule)), None)
    if scripted is not None:
        raise FpgmError(f"{scripted} is scripted, and cannot be followed; put the module there that it was made of")
    return given, input_shape


def _checked_shape(shape: Shape | None, example_input: Tensor | None) -> Shape:
    if shape is None and example_input is not None:
        shape = tuple(example_input.shape[-3:])  # type: ignore[assignment]
    if shape is None or len(shape) != 3:
        raise FpgmError(f"input_shape {shape!r} is not (channels, height, width); give it, or example_input")
    channels, height, width = map(int, shape)
    return channels, height, width


def _copied(module: nn.Module) -> nn.Module:
    """A copy in eval mode whose weights are all ordinary parameters. Raises FpgmError where it cannot be copied."""
    made = [value for part in module.modules() for value in vars(part).values() if isinstance(value, Tensor)]
    try:  # tensors with a history, which hooks make, are not copied by deepcopy
        copied = copy.deepcopy(module, {id(value): value.detach().clone() for value in made if not value.is_leaf})
    except Exception as error:
        raise FpgmError(f"this network cannot be copied ({error}); give a module that copy.deepcopy copies") from error
    bake_in(copied)
    return copied
