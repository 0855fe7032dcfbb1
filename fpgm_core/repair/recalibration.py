"""Recalibration: re-estimating the norms' running statistics of a pruned network (EagleEye, ECCV 2020)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from fpgm_core.data import ImageSet
from fpgm_core.forward_lock import FORWARD

BATCH = 128
FIRST_IMAGES = 256
IMAGES = 2000


def norms_of(module: nn.Module) -> list[nn.BatchNorm2d]:
    """The batch normalisations that keep running statistics; empty for networks that have none to re-estimate."""
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d) and m.track_running_stats]


def recalibrate(module: nn.Module, images: ImageSet) -> Iterator[int]:
    """Re-estimate every norm's running mean and variance, in place, from `images`; yields the count seen so far.

    Statistics are reset, then averaged over batches of 128 with equal weight, without gradients. Between
    two yields the module is in eval mode and may be measured; stop iterating to stop early.
    """
    norms = norms_of(module)
    if not norms:
        return
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average
    seen = 0
    for batch, labels in images.batches(BATCH):
        for norm in norms:
            norm.train()
        try:
            with FORWARD, torch.inference_mode():
                module(batch)
        finally:
            for norm in norms:
                norm.eval()
        seen += len(labels)
        yield seen
