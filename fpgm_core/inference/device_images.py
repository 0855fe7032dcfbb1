"""Image sets on the device that measures, shared by every measurement."""

from __future__ import annotations

import torch

from fpgm_core.data import ImageSet
from fpgm_core.runtime.cache import Cache, budget_of


def on_device(images: ImageSet, device: torch.device) -> ImageSet:
    """`images` on `device`, copied there once; the first images of a set share the copy of the set.

    A set that would take more than half of what caches may take there stays where it is, and goes batch by batch.
    """
    if images.pixels.device == device or images.pixels.nbytes > budget_of(device).limit // 2:
        return images
    copies = Cache[ImageSet]("images", device=device)
    copy = copies.get(images.serial)
    if copy is None or len(copy) < len(images):
        copy = images.to(device)
        copies.put(images.serial, copy)
    return copy.first(len(images))
