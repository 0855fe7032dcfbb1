"""Views of a network: new module objects, shared tensors."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


def overlay(module: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """A view of `module` in which the named parameters and buffers are replaced.

    Every submodule object is new, every tensor not named is shared, and norm buffers are copied, so the
    view can be moved, switched to training mode or recalibrated without touching the original.
    """
    return _overlay(module, tensors, "", {})


def _overlay(
    module: nn.Module, tensors: Mapping[str, Tensor], prefix: str, seen: dict[nn.Module, nn.Module]
) -> nn.Module:
    if module in seen:  # one module under two names, of which torch.fx uses the first
        return seen[module]
    # Not copy.copy: it writes, and compiles, a traced module's code anew.
    view = seen[module] = object.__new__(type(module))
    view.__dict__.update({name: v.copy() if name.endswith("_hooks") else v for name, v in vars(module).items()})
    view.__dict__["_parameters"] = {
        # A new Parameter even where the tensor is shared: Module.to() rewrites Parameter.data in place.
        name: None if p is None else nn.Parameter(tensors.get(prefix + name, p.detach()), requires_grad=False)
        for name, p in module._parameters.items()
    }
    view.__dict__["_buffers"] = {
        name: None if b is None else tensors.get(prefix + name, b).clone() for name, b in module._buffers.items()
    }
    view.__dict__["_modules"] = {
        name: None if child is None else _overlay(child, tensors, f"{prefix}{name}.", seen)
        for name, child in module._modules.items()
    }
    return view
