"""Images as the evaluator wants them: uint8 on the device, normalised there, in a fixed order."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fpgm_core.data.pixel_memory import empty_pixels
from fpgm_core.errors import FpgmError
from fpgm_core.runtime.memo import Memo

if TYPE_CHECKING:
    from pathlib import Path

    from fpgm_core.data.preprocessing import Preprocessing

HALVES_SEED = 20190616
_SERIALS = itertools.count()
_DIGESTS = Memo(256)  # by serial number and length: first images are made anew by whoever asks for them


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled images in a fixed order; "n images" is always the first n of them.

    `pixels` is uint8 of shape (N, H, W, C), `labels` int64 of shape (N,). `mean` and `std` are per
    channel, for pixels scaled to 0..1. `name` says which images these are, for results and caches. `notes` are what
    must be said of how they were read, `unread` the names of those that do not decode and were left out. A set is a
    value: nothing changes it, and its parts share its memory.
    """

    name: str
    pixels: Tensor
    labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    # What caches know the images by, without keeping them alive. Whatever is made of a set, by `replace` too, gets one
    # of its own; only its first images, and its copies on other devices, keep it.
    serial: int = field(init=False, default_factory=_SERIALS.__next__, repr=False)

    @classmethod
    def from_arrays(
        cls,
        pixels: Any,
        labels: Any,
        *,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        class_names: Sequence[str] | None = None,
        name: str = "images",
    ) -> ImageSet:
        """Images from arrays or tensors: `pixels` uint8 (N, H, W, C), `labels` whole numbers (N,), 0 and up.

        `mean` and `std` are what the network was trained with, one a channel, for pixels in 0..1. Classes without
        names are called by their numbers. Raises FpgmError for other shapes, types or values.
        """
        pixels, labels = torch.as_tensor(pixels), torch.as_tensor(labels)
        if pixels.ndim != 4 or pixels.dtype != torch.uint8 or not len(pixels):
            raise FpgmError(f"pixels are {pixels.dtype} {tuple(pixels.shape)}; give uint8 of shape (N, H, W, C)")
        if labels.shape != pixels.shape[:1] or labels.is_floating_point() or labels.dtype == torch.bool:
            raise FpgmError(f"labels are {labels.dtype} {tuple(labels.shape)}; give whole numbers, one an image")
        highest = int(labels.max())
        names = tuple(class_names) if class_names is not None else tuple(map(str, range(highest + 1)))
        if int(labels.min()) < 0 or highest >= len(names):
            raise FpgmError(f"labels reach from {int(labels.min())} to {highest}; {len(names)} classes have 0 and up")
        if not len(mean) == len(std) == pixels.shape[3] or not all(s > 0 for s in std):
            raise FpgmError(f"mean {tuple(mean)} and std {tuple(std)} are not one a channel, std above 0")
        return cls(name, pixels, labels.long(), tuple(map(float, mean)), tuple(map(float, std)), names)

    @classmethod
    def from_folder(
        cls, folder: str | Path, *, preprocessing: Preprocessing, class_names: Sequence[str] | None = None
    ) -> ImageSet:
        """Images of a tree with one folder a class (torchvision's ImageFolder), prepared by `preprocessing`.

            images = ImageSet.from_folder("photos/val", preprocessing=network.preprocessing)

        `class_names`, in the order of the network's outputs, say which folder is which class; without them folders
        are classes in the order of their names, ImageNet's (n01440764 ...) in ImageNet's. They are decoded once, and
        kept in `FPGM_HOME`. Raises FpgmError where there is no such tree, and where no image decodes. For progress:
        `open_folder(...).load_work(...)`.
        """
        from fpgm_core.data.folders import open_folder
        from fpgm_core.runtime.progress import run

        return run(open_folder(folder, class_names=class_names).load_work(preprocessing))

    @classmethod
    def from_dataset(
        cls,
        dataset: Any,
        *,
        preprocessing: Preprocessing,
        class_names: Sequence[str] | None = None,
        name: str | None = None,
    ) -> ImageSet:
        """Images of a torch `Dataset` of (image, label), or of a Hugging Face `datasets.Dataset`.

        Its images are PIL pictures, or arrays or tensors: uint8 (H, W, C) or (C, H, W), floats in 0..1 (C, H, W).
        Leave Normalize, and random transforms, out of its transforms: `preprocessing` says mean and std. Raises
        FpgmError for other data sets. For progress: `open_dataset(...).load_work(...)`.
        """
        from fpgm_core.data.datasets import open_dataset
        from fpgm_core.runtime.progress import run

        return run(open_dataset(dataset, class_names=class_names, name=name).load_work(preprocessing))

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int) -> ImageSet:
        """The first `count` images. Raises FpgmError where there are fewer, or `count` is under 1."""
        if not 1 <= count <= len(self):
            raise FpgmError(f"{count} images asked of {self.name}, which has {len(self)}; ask for 1 to {len(self)}")
        return self._same(pixels=self.pixels[:count], labels=self.labels[:count])

    def at_most(self, count: int) -> ImageSet:
        """The first `count` images, or all where there are fewer."""
        return self if count >= len(self) else self.first(count)

    def last(self, count: int) -> ImageSet:
        """The last `count` images, in their order. Raises FpgmError as `first` does."""
        self.first(count)
        return replace(self, pixels=self.pixels[-count:], labels=self.labels[-count:])

    def _same(self, **changed: Tensor) -> ImageSet:
        """A set whose images are this one's, from the first on, under the same serial number."""
        other = replace(self, **changed)  # type: ignore[arg-type]
        object.__setattr__(other, "serial", self.serial)
        return other

    @cached_property
    def highest_label(self) -> int:
        """The highest class that an image has."""
        return int(self.labels.max())

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of pixels, labels and normalisation: what results measured on these images are kept by."""
        digest: str = _DIGESTS((self.serial, len(self)), self._digest)  # it takes a second of large images
        return digest

    def _digest(self) -> str:
        sha = hashlib.sha256(f"{tuple(self.pixels.shape)} {self.mean} {self.std}".encode())
        sha.update(self.pixels.cpu().contiguous().numpy().data)
        sha.update(self.labels.cpu().contiguous().numpy().data)
        return sha.hexdigest()

    def take(self, indices: Tensor | np.ndarray, name: str) -> ImageSet:
        """The images at `indices`, in that order, as a set called `name`."""
        which = torch.as_tensor(np.asarray(indices).astype(np.int64))
        if self.pixels.device.type != "cpu":
            return replace(self, name=name, pixels=self.pixels[which], labels=self.labels[which])
        pixels = empty_pixels((len(which), *self.pixels.shape[1:]))
        torch.index_select(self.pixels, 0, which, out=pixels)
        return replace(self, name=name, pixels=pixels, labels=self.labels[which])

    def halves(self, seed: int = HALVES_SEED) -> tuple[ImageSet, ImageSet]:
        """Two disjoint halves, stratified by class, each in a seeded order: to choose on, and to report on.

        Raises FpgmError for fewer than two images.
        """
        if len(self) < 2:
            raise FpgmError(f"{self.name} has {len(self)} image; two halves need at least 2")
        first, second = stratified_halves(self.labels.cpu().numpy(), seed)
        return self.take(first, f"{self.name} choose"), self.take(second, f"{self.name} sealed")

    def to(self, device: torch.device) -> ImageSet:
        """The same images on `device`, still uint8 (3 KB a CIFAR image)."""
        return self._same(pixels=self.pixels.to(device), labels=self.labels.to(device))

    def batches(self, size: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of at most `size`: normalised float32 images (B, C, H, W) and labels (B,), in order."""
        for begin in range(start, len(self), size):
            yield self.normalised(begin, min(begin + size, len(self))), self.labels[begin : begin + size]

    def normalised(
        self, begin: int, end: int, which: Tensor | None = None, *, device: torch.device | None = None
    ) -> Tensor:
        """Images `begin` to `end` as float32 (B, C, H, W): pixel / 255, minus mean, over std.

        With `which`, bool (end - begin,), only those among them. On `device`, where the set is unless given.
        """
        device = device or self.pixels.device
        # One multiply-add a pixel: the two divisions are folded into the constants.
        scale = torch.tensor([1 / (255 * s) for s in self.std], device=device)
        shift = torch.tensor([-m / s for m, s in zip(self.mean, self.std, strict=True)], device=device)
        pixels = self.pixels[begin:end].to(device)
        pixels = pixels if which is None else pixels[which]
        images = torch.addcmul(shift, pixels.to(torch.float32), scale)
        return images.permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Batch:
    """Images `begin` to `end` of a set, for `device`: the set's own unless given."""

    images: ImageSet
    begin: int
    end: int
    device: torch.device | None = None

    def normalised(self, which: Tensor | None = None) -> Tensor:
        """The images, or those among them that `which` (bool) marks, as float32 (B, C, H, W) on the batch's device."""
        return self.images.normalised(self.begin, self.end, which, device=self.device)

    @property
    def labels(self) -> Tensor:
        """Their classes (B,), on the batch's device."""
        return self.images.labels[self.begin : self.end].to(self.device or self.images.labels.device)

    @property
    def key(self) -> Hashable:
        """Tells this batch from every other."""
        return (self.images.serial, self.begin, self.end)


def stratified_halves(labels: np.ndarray, seed: int = HALVES_SEED) -> tuple[np.ndarray, np.ndarray]:
    """Indices (int64) of two disjoint halves of `labels` (N,), each in its own seeded order.

    Every class is split evenly; of a class of odd size the halves take the larger part in turns, so that their sizes
    differ by one at most.
    """
    # RandomState's stream is frozen by NumPy's compatibility policy; default_rng's is not.
    rng = np.random.RandomState(seed)
    halves: tuple[list[int], list[int]] = ([], [])
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        fuller, other = sorted(halves, key=len, reverse=True)
        fuller.extend(members[: len(members) // 2])
        other.extend(members[len(members) // 2 :])
    return rng.permutation(halves[0]), rng.permutation(halves[1])
