"""oneDNN's convolutions with post-operations, which PyTorch offers by private names only; and the same without them.

`available` is the one switch: where this PyTorch does not offer them, or is told not to use them by
`torch.backends.mkldnn.flags(enabled=False)`, public operations compute the same in more passes over memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

_NAMES: dict[str, tuple[str, list[float]]] = {  # a rectifier in oneDNN's words
    "none": ("none", []),
    "relu": ("relu", []),
    "relu6": ("hardtanh", [0.0, 6.0]),
}


@cache
def _offered() -> bool:
    names = ("_convolution_pointwise", "_convolution_pointwise_", "_is_mkldnn_bf16_supported")
    return torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in names)


def available() -> bool:
    """Whether oneDNN's post-operations are used."""
    return bool(torch.backends.mkldnn.enabled) and _offered()


def computes_in(dtype: torch.dtype) -> bool:
    """Whether fusing is worth while in a precision on this CPU."""
    return available() and (dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()))


@dataclass(frozen=True, eq=False)
class Convolution:
    """A convolution's tensors and sizes, ready to be run on x (B, C, H, W) in channels-last memory."""

    weight: Tensor
    bias: Tensor | None
    padding: list[int]
    stride: list[int]
    dilation: list[int]
    groups: int

    def __call__(self, x: Tensor, rectifier: str) -> Tensor:
        """rectifier(convolution(x)), the rectifier "relu", "relu6" or "none"."""
        if not available():
            return _rectified(self._plain(x), rectifier)
        kind = _NAMES[rectifier]
        return torch.ops.mkldnn._convolution_pointwise(x, *self._given(), *kind, "")

    def added(self, x: Tensor, other: Tensor, rectifier: str, *, overwrites: bool = False) -> Tensor:
        """rectifier(convolution(x) + other), "relu" or "none"; `other` has the result's shape, and may be lost."""
        if not available():
            total = other.add_(self._plain(x)) if overwrites else self._plain(x).add_(other)
            return _rectified(total, rectifier)
        after = (None, []) if rectifier == "none" else _NAMES[rectifier]
        if overwrites:  # oneDNN adds to what is there in less time than it takes to read another tensor
            return torch.ops.mkldnn._convolution_pointwise_.binary(other, x, *self._given(), "add", 1.0, *after, "")
        return torch.ops.mkldnn._convolution_pointwise.binary(x, other, *self._given(), "add", 1.0, *after, "")

    def _given(self) -> tuple[Tensor, Tensor | None, list[int], list[int], list[int], int]:
        return self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups

    def _plain(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def _rectified(x: Tensor, rectifier: str) -> Tensor:
    return x.relu_() if rectifier == "relu" else x.clamp_(0, 6) if rectifier == "relu6" else x
