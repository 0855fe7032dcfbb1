"""Images as the evaluator wants them: uint8 on the device, normalised there, in a fixed order."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fpgm_core.errors import FpgmError


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled images in a fixed order; "n images" is always the first n of them.

    `pixels` is uint8 of shape (N, H, W, C), `labels` int64 of shape (N,). `mean` and `std` are per
    channel, for pixels scaled to 0..1. `name` says which images these are, for results and caches.
    """

    name: str
    pixels: Tensor
    labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int) -> ImageSet:
        """The first `count` images. Raises FpgmError where there are fewer, or `count` is under 1."""
        if not 1 <= count <= len(self):
            raise FpgmError(f"{count} images asked of {self.name}, which has {len(self)}; ask for 1 to {len(self)}")
        return replace(self, pixels=self.pixels[:count], labels=self.labels[:count])

    def to(self, device: torch.device) -> ImageSet:
        """The same images on `device`, still uint8 (3 KB a CIFAR image)."""
        return replace(self, pixels=self.pixels.to(device), labels=self.labels.to(device))

    def batches(self, size: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of at most `size`: normalised float32 images (B, C, H, W) and labels (B,), in order."""
        for begin in range(start, len(self), size):
            yield self.normalised(begin, min(begin + size, len(self))), self.labels[begin : begin + size]

    def normalised(self, begin: int, end: int, which: Tensor | None = None) -> Tensor:
        """Images `begin` to `end` as float32 (B, C, H, W): pixel / 255, minus mean, over std.

        With `which`, bool (end - begin,), only those among them.
        """
        device = self.pixels.device
        # One multiply-add a pixel: the two divisions are folded into the constants.
        scale = torch.tensor([1 / (255 * s) for s in self.std], device=device)
        shift = torch.tensor([-m / s for m, s in zip(self.mean, self.std, strict=True)], device=device)
        pixels = self.pixels[begin:end] if which is None else self.pixels[begin:end][which]
        images = torch.addcmul(shift, pixels.to(torch.float32), scale)
        return images.permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Batch:
    """Images `begin` to `end` of a set."""

    images: ImageSet
    begin: int
    end: int

    def normalised(self, which: Tensor | None = None) -> Tensor:
        """The images, or those among them that `which` (bool) marks, as float32 (B, C, H, W)."""
        return self.images.normalised(self.begin, self.end, which)

    @property
    def labels(self) -> Tensor:
        """Their classes (B,)."""
        return self.images.labels[self.begin : self.end]

    @property
    def key(self) -> Hashable:
        """Tells this batch from every other as long as its set is in memory."""
        return (self.images.pixels.data_ptr(), self.begin, self.end)
