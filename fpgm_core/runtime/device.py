"""Where to compute, in which precision; and networks moved there."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from fpgm_core.errors import FpgmError

M = TypeVar("M", bound=nn.Module)

DEVICES = ("auto", "cuda", "mps", "cpu")
PRECISIONS = ("auto", "float32", "bfloat16")
_LOST: list[str] = []


def is_loss(error: BaseException) -> bool:
    """Whether an error says that a device is gone or broken, not merely out of memory: nothing on it works again."""
    if isinstance(error, torch.OutOfMemoryError):
        return False
    accelerators = getattr(torch, "AcceleratorError", ())
    return isinstance(error, accelerators) or (isinstance(error, RuntimeError) and "CUDA error" in str(error))


def give_up(device: torch.device) -> None:
    """Use this device no more in this process."""
    if device.type not in _LOST:
        _LOST.append(device.type)


def reset_lost_devices() -> None:
    """Use devices that failed again."""
    _LOST.clear()


def lost_devices() -> tuple[str, ...]:
    """The devices that failed in this process; "auto" passes them over."""
    return tuple(_LOST)


def choose_device(name: str = "auto") -> torch.device:
    """The device called "cuda", "mps" or "cpu", or for "auto" the first of them that is there.

    Raises FpgmError for a name that is unknown or a device that is not there, or that failed.
    """
    if name in _LOST:
        raise FpgmError(f"the {name} device failed; choose auto or cpu, or start this program anew")
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    available = {device: there and device not in _LOST for device, there in found.items()}
    if name == "auto":
        return torch.device(next(device for device, there in available.items() if there))
    if name not in available:
        raise FpgmError(f"unknown device {name!r}; choose one of {', '.join(DEVICES)}")
    if not available[name]:
        there = ", ".join(device for device, is_there in available.items() if is_there)
        raise FpgmError(f"no {name} device here; choose auto or one of: {there}")
    return torch.device(name)


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """float32, bfloat16, or for "auto" bfloat16 where the hardware multiplies it natively.

    Raises FpgmError for an unknown name, and for bfloat16 on a GPU that has none.
    """
    if name not in PRECISIONS:
        raise FpgmError(f"unknown precision {name!r}; choose one of {', '.join(PRECISIONS)}")
    if name == "float32" or (name == "auto" and not _native_bfloat16(device)):
        return torch.float32
    if device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise FpgmError("this GPU has no bfloat16; choose precision auto or float32")
    return torch.bfloat16


def _native_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":  # emulated bfloat16 is ten times slower than float32
        probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)
    return False


def to_device(module: M, device: torch.device) -> M:
    """Move a module's tensors to the device, in place, convolutions in channels_last (where they run fastest)."""
    return module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
