"""Reading checkpoints without ever unpickling one, and the fingerprint that names a network's weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from fpgm_core.errors import FpgmError

_COUNTER = "num_batches_tracked"
_NESTS = ("state_dict", "model_state_dict", "model", "net")


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) over the sorted names, dtypes, shapes and bytes of a state dict.

    `num_batches_tracked` is left out: a training counter that inference never reads, absent from
    most published checkpoints, must not make two equal networks look different.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        if name.endswith(_COUNTER):
            continue
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_checkpoint(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """Read a state dict from a .safetensors file, or from a PyTorch file with `weights_only=True`.

    `sha256`, where given, is the hex digest the file must have. A state dict nested under
    "state_dict" or "model", and names prefixed "module." (DataParallel), are unwrapped.

    Raises FpgmError for a file that is missing, damaged, of another hash, or not a state dict.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FpgmError(f"cannot read the checkpoint {path}: {error.strerror}; check the path") from error
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise FpgmError(f"{path.name} is damaged: its SHA-256 is not the recorded {sha256[:12]}...; reinstall it")
    state = _parse(path, content)
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def _parse(path: Path, content: bytes) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        try:
            return load_safetensors(content)
        except SafetensorError as error:
            raise FpgmError(f"{path} is not a safetensors file: {error}; save it again") from error
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make the restricted unpickler raise nearly anything
        raise FpgmError(
            f"{path} cannot be read as plain weights; save only the state dict, best as safetensors"
        ) from error
    for nest in _NESTS:
        if isinstance(loaded, dict) and isinstance(loaded.get(nest), dict):
            loaded = loaded[nest]
    named = isinstance(loaded, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in loaded.items())
    if not named or not loaded:
        raise FpgmError(f"{path} holds no state dict; save model.state_dict(), best as safetensors")
    return loaded


def load_state(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Copy `state` into `module`, in place; names and shapes must match, counters excepted.

    Raises FpgmError naming the first few differences.
    """
    own = module.state_dict()
    wanted = {name for name in own if not name.endswith(_COUNTER)}
    given = {name for name in state if not name.endswith(_COUNTER)}
    problems = [f"missing {name}" for name in sorted(wanted - given)]
    problems += [f"unexpected {name}" for name in sorted(given - wanted)]
    problems += [
        f"{name} has shape {tuple(state[name].shape)}, not {tuple(own[name].shape)}"
        for name in sorted(wanted & given)
        if state[name].shape != own[name].shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise FpgmError(f"{source} is for another network: {'; '.join(problems[:3])}{more}")
    for name in wanted:
        if not bool(torch.isfinite(state[name]).all()):
            raise FpgmError(f"{source} holds values that are not finite in {name}; train or export it again")
    module.load_state_dict({name: state[name] for name in wanted}, strict=False)
