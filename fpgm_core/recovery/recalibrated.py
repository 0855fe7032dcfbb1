"""Recalibration: re-estimating the norms' running statistics of a pruned network (EagleEye, ECCV 2020)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fpgm_core.data import Batch, ImageSet
from fpgm_core.graph import overlay
from fpgm_core.inference import Chain, compact_on, on_device
from fpgm_core.pruning import Network, PrunedNetwork, RecoveryStep
from fpgm_core.recovery.as_is import AS_IS
from fpgm_core.recovery.method import RecoveryContext, RecoveryMethod
from fpgm_core.runtime.cores import alone, each, workers
from fpgm_core.runtime.locks import FORWARD_LOCK
from fpgm_core.runtime.progress import Progress, Work

BATCH = 128
_LEAST, _PIXELS = 32, 128 * 64**2  # of a batch of large images: their positions make up for their number
EARLY_IMAGES = 256  # of a provisional result: two batches; of large images as many batches
NUM_IMAGES = 2000
_GOLDEN = 40503  # 2^16 over the golden ratio: neighbours begin far apart


def batch_norms_of(module: nn.Module) -> list[nn.BatchNorm2d]:
    """The batch normalisations that keep running statistics; empty for networks that have none to re-estimate."""
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d) and m.track_running_stats]


def _batch_size(images: ImageSet) -> int:
    height, width = images.pixels.shape[1:3]
    return min(BATCH, max(_LEAST, _PIXELS // (height * width)))


def recalibrate(module: nn.Module, images: ImageSet, dtype: torch.dtype = torch.float32) -> Iterator[int]:
    """Re-estimate every norm's running mean and variance, in place, from `images`; yields the count seen so far.

    Statistics are reset, then averaged over batches of 128 (fewer of large images, 32 at least) with equal weight,
    without gradients. Between two yields the module may be measured; stop iterating to stop early. A Chain that
    remembers does not compute again what it remembers.

    In bfloat16 a weight rounded alike in every batch would move the means it leads to (by up to 0.005 standard
    deviations in ResNet-20, which changes the answer for 1 to 4 of 1,000 images); each batch rounds it another
    way instead, so that over batches the roundings average to the weight. See `dithered`.
    """
    norms = batch_norms_of(module)
    if not norms:
        return
    for norm in norms:
        norm.reset_running_stats()
    size, device = _batch_size(images), norms[0].running_mean.device  # type: ignore[union-attr]
    # A batch is normalised by its own statistics, so batches do not depend on each other.
    chain = module if isinstance(module, Chain) else Chain([module])
    twins = [_twin(chain, dtype) for _ in range(workers(device))]
    starts = range(0, len(images), size)
    for first in range(0, len(starts), len(twins)):
        group = starts[first : first + len(twins)]
        with FORWARD_LOCK:
            batches = [Batch(images, begin, min(begin + size, len(images)), device) for begin in group]
            pairs = list(zip(twins, batches, strict=False))
            by_batch = each(lambda pair: pair[0].statistics(pair[1], pair[1].begin // size), pairs, device)
        for statistics in by_batch:
            _take_in(norms, statistics)
        yield min(group[-1] + size, len(images))


def dithered(tensor: Tensor, turn: int) -> Tensor:
    """A float32 tensor with every entry at one of the two bfloat16 numbers around it, in turn `turn` of 0, 1, ...

    Stochastic rounding with van der Corput's sequence (base 2) in place of a random one, begun elsewhere for each
    entry: over the first 2^k turns the average is within 2^-k of the two numbers' distance of the entry.
    """
    begin = torch.arange(tensor.numel(), device=tensor.device).mul_(_GOLDEN).bitwise_and_(0xFFFF)
    shift = (begin.int().reshape(tensor.shape) + int(f"{turn % 0x10000:016b}"[::-1], 2)) & 0xFFFF
    bits = tensor.detach().view(torch.int32)  # bfloat16 is the upper half of a float32
    return ((bits + shift) & -0x10000).view(torch.float32)


class _Dithered(nn.Module):
    """A convolution whose weights and bias are rounded to bfloat16 in another way in every turn."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self.turn = 0

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.conv.bias is None else dithered(self.conv.bias, self.turn)
        return self.conv._conv_forward(x, dithered(self.conv.weight, self.turn), bias)


@dataclass(frozen=True)
class _Twin:
    """A copy with the same parameters and statistics of its own, set to those of each batch it sees."""

    chain: Chain
    dtype: torch.dtype
    convolutions: list[_Dithered]

    def statistics(self, batch: Batch, turn: int) -> list[tuple[Tensor, Tensor]]:
        """Every norm's mean and unbiased variance (C,) of one batch, rounded as in that turn."""
        for conv in self.convolutions:
            conv.turn = turn
        assert batch.device is not None
        low = torch.autocast(batch.device.type, self.dtype, enabled=self.dtype != torch.float32)
        with torch.inference_mode(), low:
            _, notes = self.chain.run(batch, _read)
        return [statistics for note in notes for statistics in note]


def _read(part: nn.Module) -> list[tuple[Tensor, Tensor]]:
    return [(norm.running_mean.clone(), norm.running_var.clone()) for norm in batch_norms_of(part)]  # type: ignore[union-attr]


def _twin(chain: Chain, dtype: torch.dtype) -> _Twin:
    twin = overlay(chain, {})
    assert isinstance(twin, Chain)
    for norm in batch_norms_of(twin):
        norm.train()
        norm.momentum = 1.0
    dithering: dict[nn.Module, _Dithered] = {}
    if dtype == torch.bfloat16:
        dithering = {conv: _Dithered(conv) for conv in twin.modules() if type(conv) is nn.Conv2d}
        for parent in list(twin.modules()):
            for name, child in parent.named_children():
                if child in dithering and not isinstance(parent, _Dithered):
                    parent._modules[name] = dithering[child]
    return _Twin(twin, dtype, list(dithering.values()))


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


def recalibrated_work(
    pruned: PrunedNetwork,
    images: ImageSet,
    context: RecoveryContext = RecoveryContext(),
    *,
    num_images: int = NUM_IMAGES,
) -> Work[PrunedNetwork]:
    """Re-estimate the norms' statistics on the first `num_images` training images (all, where there are fewer).

    After 256 images a provisional result is offered. A network without norms that keep statistics comes back as it is.
    """
    device, dtype = context.device, context.dtype
    compact = compact_on(pruned, device)
    chain = alone(lambda: Chain.cut(compact, f"training {dtype}", context.remember_late))  # of the same norms
    if not batch_norms_of(chain):
        return pruned
    training = on_device(images.first(min(num_images, len(images))), device)
    offered = False
    for seen in recalibrate(chain, training, dtype):
        early = not offered and seen >= EARLY_IMAGES * _batch_size(training) // BATCH
        offered = offered or early
        partial = _reached(pruned, compact, chain, training.name, seen) if early else None
        yield Progress(seen, len(training), "recalibrating", partial=partial)
    return _reached(pruned, compact, chain, training.name, len(training))


def _reached(pruned: PrunedNetwork, compact: nn.Module, chain: Chain, images: str, seen: int) -> PrunedNetwork:
    """The pruned network with the statistics so far; it keeps the chain that has them, for whoever measures it."""
    step = RecoveryStep("recalibrated", seen, images)
    return replace(pruned.with_norm_statistics(compact, step, aligned=True), prepared=chain)


def _without_batch_norms(network: Network) -> str | None:
    found = bool(batch_norms_of(network.module))
    return None if found else f"{network.name} has no batch normalisation whose statistics could be measured anew"


RECALIBRATED = RecoveryMethod(
    "recalibrated",
    "Recalibrated",
    "Norm statistics are measured anew on training images.",
    recalibrated_work,
    needs_images=True,
    passes=1.0,
    refusal=_without_batch_norms,
)


def usual_rung(network: Network) -> str:
    """The rung that a network is measured on unless another is asked for: recalibrated, where it has that, or as is."""
    return AS_IS.name if _without_batch_norms(network) else RECALIBRATED.name
