"""Networks moved to a device, laid out as convolutions are quickest."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def placed(module: M, device: torch.device) -> M:
    """A module's tensors moved to the device, convolutions in channels_last; the module is changed in place."""
    return module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
