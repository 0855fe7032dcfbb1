"""Image sets on the device that measures, shared by every measurement."""

from __future__ import annotations

import torch

from fpgm_core.data import ImageSet
from fpgm_core.runtime.cache import Cache, size_of


def on_device(images: ImageSet, device: torch.device) -> ImageSet:
    """`images` on `device`, copied there once; the first images of a set share the copy of the set."""
    if images.pixels.device == device:
        return images
    # With the set that it was made of: its address is the key. What is on the device is what counts there.
    copies = Cache[tuple[ImageSet, ImageSet]]("images", sizeof=lambda pair: size_of(pair[1]), device=device)
    key = images.pixels.data_ptr()
    pair = copies.get(key)
    if pair is None or len(pair[0]) < len(images):
        pair = images, images.to(device)
        copies.put(key, pair)
    return pair[1].first(len(images))
