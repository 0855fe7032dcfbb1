"""What a layer reads: columns of its input, at positions drawn by a seed."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fpgm_core.graph import WeightedLayer


def groups_of(layer: nn.Module) -> int:
    """Of how many groups a convolution is; a Linear layer is of one."""
    return layer.groups if isinstance(layer, nn.Conv2d) else 1


def as_matrices(weight: Tensor, groups: int) -> Tensor:
    """A layer's weight (N, C / groups, ...) as one matrix a group, (groups, N / groups, P), channel by channel.

    What `patches` gives is in the same order.
    """
    return weight.detach().reshape(groups, len(weight) // groups, -1)


def positions(layer: WeightedLayer, num_images: int, *, count: int, seed: int) -> Tensor:
    """Output positions of a layer to look at, int64 (num_images, at most `count`); all of them where there are no more.

    An image's positions depend on the seed, the layer and the image's place alone: batches change nothing.
    """
    size = layer.cost_per_weight if layer.is_conv else 1
    if size <= count:
        return torch.arange(size).expand(num_images, size)
    rng = np.random.RandomState([seed, zlib.crc32(layer.name.encode())])  # its stream is frozen by NumPy
    return torch.from_numpy(rng.randint(0, size, (num_images, count)))


def patches(layer: nn.Module, x: Tensor, *, at: Tensor, channels: Tensor | None = None) -> Tensor:
    """The columns that a layer's weights meet at output positions `at`, float32 (B * K, groups, P).

    `x` is the layer's input, (B, C, H, W), or (B, ..., C) for a Linear layer; `at` is (B, K). `channels` takes
    only those of its input channels, of a layer without groups.
    """
    if isinstance(layer, nn.Linear):
        rows = x.reshape(len(x), -1, x.shape[-1])
        taken = rows[torch.arange(len(x), device=x.device)[:, None], at].flatten(0, 1)
        return (taken if channels is None else taken[:, channels])[:, None].float()
    assert isinstance(layer, nn.Conv2d)
    padded, index = _corners(layer, x, at)
    if channels is not None:
        padded = padded[:, channels]
    rows = padded.permute(0, 2, 3, 1).reshape(-1, padded.shape[1])  # one row a pixel
    taken = rows.index_select(0, index.flatten()).view(at.numel(), index.shape[-1], layer.groups, -1)
    return taken.permute(0, 2, 3, 1).reshape(at.numel(), layer.groups, -1).float()


def _corners(layer: nn.Conv2d, x: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """The padded input, and for each position the places (B, K, k * k) of its pixels among all rows of pixels."""
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = F.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
    height, width = padded.shape[2:]
    reach = [d * (k - 1) + 1 for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    columns = (width - reach[1]) // layer.stride[1] + 1
    down = torch.arange(layer.kernel_size[0], device=x.device) * layer.dilation[0]
    along = torch.arange(layer.kernel_size[1], device=x.device) * layer.dilation[1]
    inside = (down[:, None] * width + along).flatten()
    corner = at // columns * layer.stride[0] * width + at % columns * layer.stride[1]
    image = torch.arange(len(x), device=x.device)[:, None] * (height * width)
    return padded, (image + corner)[..., None] + inside


def outputs_at(layer: nn.Module, y: Tensor, *, at: Tensor) -> Tensor:
    """A layer's output (B, N, H, W), or (B, ..., N) of a Linear layer, at positions `at` (B, K): float32 (B * K, N)."""
    rows = y.reshape(len(y), -1, y.shape[-1]) if isinstance(layer, nn.Linear) else y.flatten(2).transpose(1, 2)
    return rows[torch.arange(len(y), device=y.device)[:, None], at].flatten(0, 1).float()
