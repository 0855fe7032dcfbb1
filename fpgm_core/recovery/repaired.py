"""Repaired in closed form: refitted front to back, and judged on training images that it was not fitted to."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import asdict, replace

import numpy as np
import torch
from torch import Tensor, nn

from fpgm_core.calibration import RIDGE, CalibrationConfig, batch_size
from fpgm_core.data import ImageSet
from fpgm_core.errors import FpgmError
from fpgm_core.pruning import PrunedNetwork, RecoveryStep
from fpgm_core.recovery.method import RecoveryContext, RecoveryMethod
from fpgm_core.recovery.recalibrated import NUM_IMAGES, RECALIBRATED, recalibrate, usual_rung
from fpgm_core.recovery.refit import images_that_fit, refit_work
from fpgm_core.runtime.cache import Cache, size_of
from fpgm_core.runtime.cores import each, split
from fpgm_core.runtime.device import to_device
from fpgm_core.runtime.locks import FORWARD_LOCK
from fpgm_core.runtime.progress import Progress, Work, within

WATCHED = 1000
REPAIR = CalibrationConfig(num_images=1200, positions=24)
# With the images, so that their addresses stay; they are counted elsewhere.
_RESULTS = Cache[tuple[RecoveryStep, dict[str, Tensor], ImageSet]]("repaired", sizeof=lambda result: size_of(result[1]))


def repaired_work(
    pruned: PrunedNetwork,
    images: ImageSet,
    context: RecoveryContext = RecoveryContext(),
    *,
    config: CalibrationConfig = REPAIR,
    ridge: float = RIDGE,
) -> Work[PrunedNetwork]:
    """Repair a pruned network in closed form, in float32 whatever the context's precision.

    The first of the training images are fitted to, see `refit_work`; the last (1,000, a fifth where there are few)
    are watched: where the repaired network is right about fewer of those than the recalibrated one, the recalibrated
    one comes back, with a notice; without batch norms the pruned network itself. Results are remembered while there
    is room.

    Raises FpgmError for fewer than two images.
    """
    if len(images) < 2:
        raise FpgmError(f"repair needs images to fit to and others to watch, and {images.name} has {len(images)}")
    device = context.device
    key = _key(pruned, images, config, ridge, device)
    remembered = _RESULTS.get(key)
    if remembered is None:
        step, tensors = yield from _repair_work(pruned, images, config=config, ridge=ridge, device=device)
        _RESULTS.put(key, (step, tensors, images))
    else:
        step, tensors, _ = remembered
    return pruned.with_tensors(tensors, step)


def _repair_work(
    pruned: PrunedNetwork, images: ImageSet, *, config: CalibrationConfig, ridge: float, device: torch.device
) -> Work[tuple[RecoveryStep, dict[str, Tensor]]]:
    num_watched = min(WATCHED, max(1, len(images) // 5))
    watched = replace(images, pixels=images.pixels[-num_watched:], labels=images.labels[-num_watched:]).to(device)
    rest = images.first(len(images) - num_watched)
    fitted = rest.first(images_that_fit(pruned.network, min(config.num_images, len(rest)))).to(device)
    tensors = yield from within(refit_work(pruned, fitted, config=config, ridge=ridge), 0, 0.7, "repairing")
    repaired = pruned.with_tensors(tensors, RecoveryStep("repaired"))
    right = {"repaired": _count_right(repaired.compact(aligned=True), watched)}
    training = images.first(min(NUM_IMAGES, len(images))).to(device)
    plain = to_device(pruned.compact(aligned=True), device)
    for seen in recalibrate(plain, training):
        yield Progress(min(0.99, 0.8 + 0.2 * seen / len(training)), what="checking the repair")
    other = usual_rung(pruned.network)
    right[other] = _count_right(plain, watched)
    details = {"config": asdict(config), "ridge": ridge, "watched": num_watched, "right": right}
    if right["repaired"] >= right[other]:
        return RecoveryStep("repaired", len(fitted), images.name, details), tensors
    notice = (
        f"the repaired network is right about {right['repaired']} of {num_watched} held-out training images, "
        f"the {'recalibrated one' if other == RECALIBRATED.name else 'pruned one as it is'} about {right[other]}: "
        f"{'recalibrated' if other == RECALIBRATED.name else 'that'} is kept"
    )
    read = len(training) if other == RECALIBRATED.name else 0
    step = RecoveryStep(other, read, images.name, details, notice)
    recalibrated = pruned.with_norm_statistics(plain, step, aligned=True)
    return step, {name: tensor for name, tensor in recalibrated.tensors.items() if ".running_" in name}


def _count_right(module: nn.Module, images: ImageSet) -> int:
    """How many of the images a network classifies rightly, in float32."""
    device = images.pixels.device
    network = to_device(module, device)

    def count(piece: tuple[int, int]) -> int:
        with torch.inference_mode():
            answers = network(images.normalised(*piece)).argmax(1)
        return int((answers == images.labels[slice(*piece)]).sum())

    with FORWARD_LOCK:
        return sum(each(count, split(0, len(images), batch_size(images), device), device))


def _key(
    pruned: PrunedNetwork, images: ImageSet, config: CalibrationConfig, ridge: float, device: torch.device
) -> Hashable:
    """What a repair's result depends on."""
    digest = hashlib.sha256(
        b"".join(np.packbits(pruned.keep_masks[name]).tobytes() for name in sorted(pruned.keep_masks))
    )
    for name in sorted(pruned.tensors):
        digest.update(name.encode() + pruned.tensors[name].contiguous().numpy().tobytes())
    where = images.pixels.data_ptr(), images.labels.data_ptr(), len(images), images.mean, images.std
    layers = tuple(sorted(pruned.keep_masks))
    return pruned.network.identity, digest.hexdigest(), layers, config, where, str(device), ridge


REPAIRED = RecoveryMethod(
    "repaired",
    "Repaired",
    "Layers are refitted by least squares to make from what is left what the dense network made; no gradients.",
    repaired_work,
    needs_images=True,
)
