"""Image sets on the device that measures, shared by every measurement."""

from __future__ import annotations

import threading
from collections import OrderedDict

import torch

from fpgm_core.data import ImageSet


class Resident:
    """Image sets on their device, a few at a time, shared by every measurement."""

    def __init__(self, limit: int = 8) -> None:
        self._limit = limit
        self._sets: OrderedDict[tuple[int, str], tuple[ImageSet, ImageSet]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, images: ImageSet, device: torch.device) -> ImageSet:
        """`images` on `device`; a first part of a set shares the storage of the set."""
        if images.pixels.device == device:
            return images
        key = (images.pixels.data_ptr(), str(device))
        with self._lock:
            if key not in self._sets or len(self._sets[key][0]) < len(images):
                self._sets[key] = (images, images.to(device))
            self._sets.move_to_end(key)
            while len(self._sets) > self._limit:
                self._sets.popitem(last=False)
            return self._sets[key][1].first(len(images))


_RESIDENT = Resident()


def on_device(images: ImageSet, device: torch.device) -> ImageSet:
    """`images` on `device`, still uint8; copied once for every measurement and recovery that asks."""
    return _RESIDENT.get(images, device)
