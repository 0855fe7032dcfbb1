"""Training images cropped and flipped, a whole batch at once on its device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

PADDING = 4


def draw_crops(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """For `count` images, each (count, 1): a crop's first row and first column, 0..8, and whether it is flipped."""
    top, left = (torch.randint(0, 2 * PADDING + 1, (count, 1), generator=generator) for _ in range(2))
    return top, left, torch.rand(count, 1, generator=generator) < 0.5


def augment(images: Tensor, crops: Sequence[Tensor]) -> Tensor:
    """Each image (B, C, H, W) padded by 4 zeros, then cropped and flipped as `draw_crops` drew.

    Zeros after normalisation are the mean colour.
    """
    count, _, height, width = images.shape
    padded = F.pad(images, (PADDING,) * 4)
    top, left, flip = (drawn.to(images.device) for drawn in crops)
    rows = top + torch.arange(height, device=images.device)
    across = torch.arange(width, device=images.device).expand(count, width)
    columns = left + torch.where(flip, width - 1 - across, across)
    which = torch.arange(count, device=images.device)
    # Advanced indices at the ends put channels last, which is how they are wanted.
    cropped = padded.permute(0, 2, 3, 1)[which[:, None, None], rows[:, :, None], columns[:, None, :]]
    return cropped.permute(0, 3, 1, 2)
