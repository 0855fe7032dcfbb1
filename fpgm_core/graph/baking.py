"""Weights that are made anew in every forward, by hooks or parametrisations, baked in: what they are in eval mode."""

from __future__ import annotations

import warnings

from torch import nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm


def bake_in(module: nn.Module) -> list[str]:
    """Turn weights that hooks or parametrisations make into ordinary parameters, in place; the layers concerned.

    weight_norm and spectral_norm of both kinds, masks that torch.nn.utils.prune left on, and any parametrisation of
    one's own: of each the weight as eval mode has it stays, and the hook goes.
    """
    module.eval()
    return [name for name, part in module.named_modules() if _baked(part)]


def _baked(part: nn.Module) -> bool:
    found = False
    if parametrize.is_parametrized(part):
        kind = type(part)  # made for this one module, but shared with those that it was copied from
        part.__class__ = type(kind.__name__, kind.__bases__, dict(vars(kind)))
        for tensor in list(part.parametrizations):  # type: ignore[arg-type]
            parametrize.remove_parametrizations(part, tensor, leave_parametrized=True)
            value = getattr(part, tensor)
            if not isinstance(value, nn.Parameter):  # of several originals, where none asks for a gradient
                delattr(part, tensor)
                part.register_parameter(tensor, nn.Parameter(value.detach(), requires_grad=False))
            found = True
    for hook in list(part._forward_pre_hooks.values()):
        name = type(hook).__name__
        if isinstance(hook, prune.BasePruningMethod):
            prune.remove(part, hook._tensor_name)
        elif name in ("WeightNorm", "SpectralNorm") and type(hook).__module__.startswith("torch.nn.utils"):
            remove = remove_weight_norm if name == "WeightNorm" else remove_spectral_norm
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                remove(part, hook.name)  # type: ignore[attr-defined]
        else:
            continue
        found = True
    return found
