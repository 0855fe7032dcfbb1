"""Ranking the right class: any function of images, in float32, where the images are."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fpgm_core.data import ImageSet
from fpgm_core.inference.batches import usual_batch
from fpgm_core.inference.classifier import ranks_in
from fpgm_core.runtime.locks import FORWARD_LOCK
from fpgm_core.runtime.progress import Progress, Work


def rank_work(module: Callable[[Tensor], Tensor], images: ImageSet) -> Work[Tensor]:
    """How many classes a function of normalised images (B, C, H, W) puts before the right one, uint8 (N,), in float32.

    As `Classifier.ranks` counts them. It is given none but these, on the device that they are on; a module is in eval
    mode already. `Progress.partial` is the number of right answers so far.
    """
    size, correct = usual_batch((images.pixels.device.type, torch.float32), images), 0
    ranks: list[Tensor] = []
    for begin in range(0, len(images), size):
        end = min(begin + size, len(images))
        with FORWARD_LOCK, torch.inference_mode():
            ranks.append(ranks_in(module(images.normalised(begin, end)), images.labels[begin:end]))
        correct += int((ranks[-1] == 0).sum())
        yield Progress(end, len(images), "counting right answers", partial=correct)
    return torch.cat(ranks)


def count_correct_work(module: Callable[[Tensor], Tensor], images: ImageSet) -> Work[int]:
    """How many of `images` a function of them classifies rightly, see `rank_work`."""
    ranks = yield from rank_work(module, images)
    return int((ranks == 0).sum())
