"""The state dicts in what a checkpoint holds: found in their nests, rid of wrappers' names and of tools' counters."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

# What wrappers put before or between a module's names; "module" may be a network's own name further in.
_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
_TOOLS_COUNTERS = {"total_ops", "total_params", "n_averaged"}  # thop's, and AveragedModel's
_NESTS = ("", "state_dict", "model_state_dict", "model", "net", "network", "module", "params", "weights")
_AVERAGED = re.compile(r"(^|[._])(ema|swa|averaged?)([._]|$)")
_DEEPEST = 3


def state_dicts(loaded: Any) -> dict[str, dict[str, Tensor]]:
    """Every state dict in what a checkpoint holds, by where it lies ("" for the whole), the likeliest first.

    Averaged weights (EMA, SWA) come before the others, as timm and torchvision evaluate them; then the usual nests,
    then whatever holds the most tensors. Optimizers' states are left out.
    """
    found = {place: cleaned for place, state in _nests(loaded) if (cleaned := _cleaned(state))}
    return dict(sorted(found.items(), key=lambda item: likelihood(item[0], len(item[1]))))


def likelihood(place: str, tensors: int = 0) -> tuple[int, int, int]:
    """A key that sorts the parts of a checkpoint: what a person who names none means comes first."""
    if _AVERAGED.search(place.lower()):
        return 0, 0, -tensors
    known = all(part in _NESTS for part in place.split("."))
    return (1, _NESTS.index(place.split(".")[-1]), -tensors) if known else (2, 0, -tensors)


def _nests(loaded: Any, place: str = "", depth: int = 0) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    if depth > _DEEPEST or "optim" in place.lower():
        return
    if isinstance(loaded, Mapping):
        yield place, loaded
        inside = [(key, value) for key, value in loaded.items() if isinstance(key, str)]
    else:
        inside = [(str(at), value) for at, value in enumerate(loaded)] if isinstance(loaded, list | tuple) else []
    for key, value in inside:
        yield from _nests(value, f"{place}.{key}" if place else key, depth + 1)


def _cleaned(state: Mapping[Any, Any]) -> dict[str, Tensor]:
    """The tensors of a mapping by their plain names, weights that reparametrisations made multiplied out."""
    named = {key: value for key, value in state.items() if isinstance(key, str) and isinstance(value, Tensor)}
    named = {name: value for name, value in named.items() if name.rpartition(".")[2] not in _TOOLS_COUNTERS}
    plain = {_unwrapped(name): value.detach() for name, value in named.items()}
    return multiplied_out(plain if len(plain) == len(named) else named)


def _unwrapped(name: str) -> str:
    parts = [part for part in name.split(".") if part not in _WRAPPERS]
    while parts[:1] == ["module"]:
        del parts[0]
    return ".".join(parts)


def not_plain(tensor: Tensor) -> str | None:
    """What a tensor is that is no ordinary array of numbers; None where it is one."""
    if tensor.is_meta:
        return "no values at all"
    if tensor.is_quantized:
        return "quantised values"
    if tensor.layout != torch.strided or tensor.is_nested:
        return "a sparse or nested tensor"
    if tensor.is_complex():
        return "complex numbers"
    return "eight-bit numbers" if tensor.is_floating_point() and tensor.element_size() < 2 else None


def multiplied_out(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict whose weights are ordinary ones again where they were saved as the parts that make them.

    torch.nn.utils.prune's masks, weight_norm and spectral_norm, each as its hook or its parametrisation saves it.
    """
    made: dict[str, Tensor] = {}
    target_of: dict[str, str] = {}
    for name in state:
        for pattern, target, others, make in _MADE:
            match = re.fullmatch(pattern, name)
            names = [name, *(match.expand(other) for other in others)] if match else []
            if match and all(part in state and not_plain(state[part]) is None for part in names):
                value = make(*(state[part] for part in names))
                if value is not None:
                    made[match.expand(target)] = value
                    target_of |= dict.fromkeys(names, match.expand(target))
    order = dict.fromkeys(target_of.get(name, name) for name in state)  # each where its first part stood
    return {name: made[name] if name in made else state[name] for name in order}


def _masked(weight: Tensor, mask: Tensor) -> Tensor | None:
    return weight * mask if weight.shape == mask.shape else None


def _weight_normed(length: Tensor, direction: Tensor) -> Tensor | None:
    """g v / |v|, the norm over all dimensions but one; None where the shapes are not those of a length."""
    if length.ndim != direction.ndim or length.ndim < 2:
        return None
    over = [dim for dim in range(length.ndim) if length.shape[dim] == 1]
    sizes = zip(length.shape, direction.shape, strict=True)
    if len(over) < length.ndim - 1 or any(size not in (1, whole) for size, whole in sizes):
        return None
    return length * direction / torch.linalg.vector_norm(direction, dim=over, keepdim=True)


def _spectral_normed(weight: Tensor, u: Tensor, v: Tensor) -> Tensor | None:
    """The weight over its largest singular value, u W v, as eval mode has it: u may belong to dimension 0 or 1."""
    for dim in range(min(2, weight.ndim)):
        matrix = weight.movedim(dim, 0).flatten(1)
        if (u.numel(), v.numel()) == tuple(matrix.shape):
            return weight / (u @ matrix @ v)
    return None


_PARAMETRISED = r"(.*?)parametrizations\.(\w+)\."
# The first part's name, the weight's, the other parts' names, and how the parts make the weight.
_MADE: tuple[tuple[str, str, tuple[str, ...], Callable[..., Tensor | None]], ...] = (
    (r"(.*)_orig", r"\1", (r"\1_mask",), _masked),
    (r"(.*)_orig", r"\1", (r"\1_u", r"\1_v"), _spectral_normed),
    (r"(.*)_g", r"\1", (r"\1_v",), _weight_normed),
    (_PARAMETRISED + "original0", r"\1\2", (r"\1parametrizations.\2.original1",), _weight_normed),
    (
        _PARAMETRISED + "original",
        r"\1\2",
        (r"\1parametrizations.\2.0._u", r"\1parametrizations.\2.0._v"),
        _spectral_normed,
    ),
)
