"""Reading checkpoints without ever unpickling one, and the fingerprint that names a network's weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from fpgm_core.errors import FpgmError
from fpgm_core.models.checkpoint_files import Beside, parse
from fpgm_core.models.matching import COUNTER, Match, Mismatch, match_names
from fpgm_core.models.state_dicts import not_plain, state_dicts
from fpgm_core.runtime.files import read_file


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) over the sorted names, dtypes, shapes and bytes of a state dict.

    `num_batches_tracked` is left out: a training counter that inference never reads, absent from
    most published checkpoints, must not make two equal networks look different.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        if name.endswith(COUNTER):
            continue
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_state_dicts(path: Path, sha256: str | None = None) -> dict[str, dict[str, Tensor]]:
    """The state dicts in a .safetensors file, or in a PyTorch file read with `weights_only=True`.

    By where they lie in it ("" for the file itself, "state_dict", "ema" ...), the likeliest first. `sha256`, where
    given, is the hex digest that the file must have. Names are without the wrappers of DataParallel, FSDP and
    torch.compile, weights of weight_norm, spectral_norm and torch.nn.utils.prune multiplied out.

    Raises FpgmError for a file that is missing, damaged, of another hash, or without a state dict.
    """
    content = read_file(path, what="the checkpoint ")
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise FpgmError(f"{path.name} is damaged: its SHA-256 is not the recorded {sha256[:12]}...; reinstall it")
    loaded = parse(path, content)
    found = state_dicts(loaded)
    if not found:
        arrays = isinstance(loaded, Mapping) and any(isinstance(value, Beside) for value in loaded.values())
        what = ": its values are NumPy arrays, not tensors" if arrays else ""
        raise FpgmError(f"{path} holds no state dict{what}; save model.state_dict(), best as safetensors")
    return found


def read_checkpoint(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """The likeliest of the state dicts that `read_state_dicts` finds. Raises FpgmError as it does."""
    return next(iter(read_state_dicts(path, sha256).values()))


def best_match(
    states: Mapping[str, Mapping[str, Tensor]],
    own: Mapping[str, Tensor],
    source: str,
    *,
    num_classes: int | None = None,
    elsewhere: Callable[[], str | None] = lambda: None,
) -> tuple[str, Match]:
    """Which of several state dicts fits a network whose own is `own`, the likeliest first, and how; see `match_names`.

    Raises FpgmError where none does, naming the first few differences of the likeliest, and what to do; `elsewhere`
    is asked then for the name of a network that they fit.
    """
    first: Mismatch | None = None
    for place, state in states.items():
        try:
            return place, match_names(state, own, num_classes=num_classes)
        except Mismatch as mismatch:
            first = first or mismatch
    assert first is not None, "read_state_dicts finds one, or raises"
    other = elsewhere()
    advice = f"open {other}, whose tensors they are" if other else first.advice
    raise FpgmError(f"{source} {first.problem}; {advice}")


def load_state(module: nn.Module, state: Mapping[str, Tensor], source: str, match: Match | None = None) -> None:
    """Copy `state` into `module`, in place; names and shapes must match as `match_names` says, counters excepted.

    Raises FpgmError naming the first few differences, and for values that no trained network has.
    """
    own = module.state_dict()
    match = match or best_match({"": state}, own, source)[1]
    fitted = {name: state[given] for name, given in match.names.items()}
    for name, tensor in fitted.items():
        if (problem := _problem(name, tensor, own[name])) is not None:
            raise FpgmError(f"{source} {problem}")
    module.load_state_dict(fitted, strict=False)


def _problem(name: str, tensor: Tensor, own: Tensor) -> str | None:
    """What forbids to take a network's tensor `own` from a checkpoint's; None where nothing does."""
    kind = not_plain(tensor)
    if kind is None and own.is_floating_point() != tensor.is_floating_point():
        kind = "whole numbers" if own.is_floating_point() else "no whole numbers"
    if kind is not None:
        dtype = str(tensor.dtype).removeprefix("torch.")
        return f"holds {kind} ({dtype}) in {name}; save the network's floating-point weights, dense, on the CPU"
    if not bool(torch.isfinite(tensor.to(own.dtype)).all()):
        return f"holds values that are not finite in {name}; train or export it again"
    if name.endswith("running_var") and bool((tensor < 0).any()):
        return f"holds negative variances in {name}, which no network's statistics have; train or export it again"
    return None
