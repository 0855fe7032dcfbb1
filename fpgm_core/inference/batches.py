"""How many images a device classifies at once: fewer where they are large, and where its memory held no more."""

from __future__ import annotations

import torch

from fpgm_core.data import ImageSet

# Small enough that activations stay in a CPU's caches (bfloat16's are half as large), large enough to fill a GPU.
_MOST = {
    ("cpu", torch.float32): 100,
    ("cpu", torch.bfloat16): 250,
    ("cuda", torch.float32): 1000,
    ("cuda", torch.bfloat16): 1000,
    ("mps", torch.float32): 500,
    ("mps", torch.bfloat16): 500,
}
# The pixels, height times width, of a batch's images together: of 224 x 224, 8 on a CPU's core and 256 on a GPU.
_PIXELS = {
    ("cpu", torch.float32): 8 * 224**2,
    ("cpu", torch.bfloat16): 8 * 224**2,
    ("cuda", torch.float32): 256 * 224**2,
    ("cuda", torch.bfloat16): 256 * 224**2,
    ("mps", torch.float32): 64 * 224**2,
    ("mps", torch.bfloat16): 64 * 224**2,
}
Kind = tuple[str, torch.dtype]
_held = dict[Kind, int]()  # the pixels that a device's memory has held, where it did not hold the usual


def usual_batch(kind: Kind, images: ImageSet) -> int:
    """How many of these images a device, by type and precision, classifies at once where memory does not matter."""
    return _fitting(kind, images, _PIXELS[kind])


def batch_of(kind: Kind, images: ImageSet) -> int:
    """How many it classifies at once: fewer than usual where its memory has held no more."""
    return _fitting(kind, images, _held.get(kind, _PIXELS[kind]))


def halve_batch(kind: Kind, images: ImageSet) -> bool:
    """Classify half as many from now on; False where it is a single image already."""
    batch = batch_of(kind, images)
    _held[kind] = batch * _area(images) // 2
    return batch > 1


def reset_batches() -> None:
    """Try batches of the usual size again, on every device: for when other programs have left its memory."""
    _held.clear()


def _fitting(kind: Kind, images: ImageSet, pixels: int) -> int:
    return max(1, min(_MOST[kind], pixels // _area(images)))


def _area(images: ImageSet) -> int:
    height, width = images.pixels.shape[1:3]
    return height * width
