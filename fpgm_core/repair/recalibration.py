"""Recalibration: re-estimating the norms' running statistics of a pruned network (EagleEye, ECCV 2020)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from fpgm_core.cores import each, workers
from fpgm_core.data import ImageSet
from fpgm_core.forward_lock import FORWARD
from fpgm_core.pruning import overlay
from fpgm_core.repair.chain import Batch, Chain

BATCH = 128
FIRST_IMAGES = 256
IMAGES = 2000


def norms_of(module: nn.Module) -> list[nn.BatchNorm2d]:
    """The batch normalisations that keep running statistics; empty for networks that have none to re-estimate."""
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d) and m.track_running_stats]


def recalibrate(module: nn.Module, images: ImageSet) -> Iterator[int]:
    """Re-estimate every norm's running mean and variance, in place, from `images`; yields the count seen so far.

    Statistics are reset, then averaged over batches of 128 with equal weight, without gradients. Between
    two yields the module may be measured; stop iterating to stop early. A Chain that remembers does not compute
    again what it remembers.
    """
    norms = norms_of(module)
    if not norms:
        return
    for norm in norms:
        norm.reset_running_stats()
    device = images.pixels.device
    # A batch is normalised by its own statistics, so batches do not depend on each other.
    chain = module if isinstance(module, Chain) else Chain([module])
    twins = [_twin(chain) for _ in range(workers(device))]
    starts = range(0, len(images), BATCH)
    for first in range(0, len(starts), len(twins)):
        group = starts[first : first + len(twins)]
        with FORWARD:
            batches = [Batch(images, begin, min(begin + BATCH, len(images))) for begin in group]
            found = each(lambda piece: _statistics(*piece), list(zip(twins, batches, strict=False)), device)
        for statistics in found:
            _take_in(norms, statistics)
        yield min(group[-1] + BATCH, len(images))


def _twin(chain: Chain) -> Chain:
    """A copy with the same parameters and statistics of its own, set to those of each batch it sees."""
    twin = overlay(chain, {})
    assert isinstance(twin, Chain)
    for norm in norms_of(twin):
        norm.train()
        norm.momentum = 1.0
    return twin


def _statistics(twin: Chain, batch: Batch) -> list[tuple[Tensor, Tensor]]:
    """Every norm's mean and unbiased variance (C,) of one batch."""

    def read(part: nn.Module) -> list[tuple[Tensor, Tensor]]:
        return [(norm.running_mean.clone(), norm.running_var.clone()) for norm in norms_of(part)]  # type: ignore[union-attr]

    with torch.inference_mode():
        _, notes = twin.run(batch, read)
    return [statistics for note in notes for statistics in note]


def _take_in(norms: list[nn.BatchNorm2d], statistics: list[tuple[Tensor, Tensor]]) -> None:
    """One more batch into the cumulative average."""
    with torch.no_grad():
        for norm, (mean, variance) in zip(norms, statistics, strict=True):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            assert norm.num_batches_tracked is not None
            norm.num_batches_tracked.add_(1)
            weight = 1 / int(norm.num_batches_tracked)
            norm.running_mean.lerp_(mean, weight)
            norm.running_var.lerp_(variance, weight)
