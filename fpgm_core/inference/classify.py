"""Counting right answers: any function of images, in float32, where the images are."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fpgm_core.data import ImageSet
from fpgm_core.inference.batches import usual_batch
from fpgm_core.runtime.locks import FORWARD_LOCK
from fpgm_core.runtime.progress import Progress, Work


def count_correct_work(module: Callable[[Tensor], Tensor], images: ImageSet) -> Work[int]:
    """How many of `images` a function of normalised images (B, C, H, W) classifies rightly, in float32.

    It is given none but these, on the device that they are on; a module is in eval mode already. `Progress.partial` is
    the count so far.
    """
    size, correct = usual_batch((images.pixels.device.type, torch.float32), images), 0
    for begin in range(0, len(images), size):
        end = min(begin + size, len(images))
        with FORWARD_LOCK, torch.inference_mode():
            answers = module(images.normalised(begin, end)).argmax(1)
        correct += int((answers == images.labels[begin:end]).sum())
        yield Progress(end, len(images), "counting right answers", partial=correct)
    return correct
