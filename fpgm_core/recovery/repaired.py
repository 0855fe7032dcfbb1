"""Repaired in closed form: refitted front to back, and judged on training images that it was not fitted to."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict

import torch
from torch import Tensor, nn

from fpgm_core.calibration import RIDGE, CalibrationConfig, batch_size
from fpgm_core.data import ImageSet
from fpgm_core.errors import FpgmError
from fpgm_core.graph import overlay
from fpgm_core.inference import compact_on
from fpgm_core.pruning import PrunedNetwork, RecoveryStep
from fpgm_core.pruning.proof import tensors_in
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
_RESULTS = Cache[tuple[RecoveryStep, dict[str, Tensor]]]("repaired", sizeof=lambda result: size_of(result[1]))


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
        _RESULTS.put(key, (step, tensors))
    else:
        step, tensors = remembered
    return pruned.with_tensors(tensors, step)


def _repair_work(
    pruned: PrunedNetwork, images: ImageSet, *, config: CalibrationConfig, ridge: float, device: torch.device
) -> Work[tuple[RecoveryStep, dict[str, Tensor]]]:
    num_watched = min(WATCHED, max(1, len(images) // 5))
    watched = images.last(num_watched).to(device)
    rest = images.first(len(images) - num_watched)
    fitted = rest.first(images_that_fit(pruned.network, min(config.num_images, len(rest)))).to(device)
    tensors = yield from within(refit_work(pruned, fitted, config=config, ridge=ridge), 0, 0.7, "repairing")
    repaired = pruned.with_tensors(tensors, RecoveryStep("repaired"))
    training = images.first(min(NUM_IMAGES, len(images))).to(device)
    plain = compact_on(pruned, device)
    for seen in recalibrate(plain, training):
        yield Progress(min(0.99, 0.8 + 0.2 * seen / len(training)), what="checking the repair")
    other = usual_rung(pruned.network)
    right, said = _compared(pruned, {"repaired": compact_on(repaired, device), other: plain}, watched)
    details = {"config": asdict(config), "ridge": ridge, "watched": num_watched, "right": right, "says": said}
    if right["repaired"] >= right[other]:
        return RecoveryStep("repaired", len(fitted), images.name, details), tensors
    notice = (
        f"the repaired network is {said} {right['repaired']} of {num_watched} held-out training images, "
        f"the {'recalibrated one' if other == RECALIBRATED.name else 'pruned one as it is'} about {right[other]}: "
        f"{'recalibrated' if other == RECALIBRATED.name else 'that'} is kept"
    )
    read = len(training) if other == RECALIBRATED.name else 0
    step = RecoveryStep(other, read, images.name, details, notice)
    recalibrated = pruned.with_norm_statistics(plain, step, aligned=True)
    return step, {name: tensor for name, tensor in recalibrated.tensors.items() if ".running_" in name}


def _compared(pruned: PrunedNetwork, networks: Mapping[str, nn.Module], images: ImageSet) -> tuple[dict[str, int], str]:
    """Of how many images each of two networks is right, in float32, and what that means in words.

    Where there is no class to be right about, the network of the two counts whose outputs are nearer the dense one's.
    """
    device = images.pixels.device
    pair = list(networks.values())
    classifies = pruned.network.num_classes is not None
    dense = None if classifies else to_device(overlay(pruned.network.module, {}), device)

    def count(piece: tuple[int, int]) -> Tensor:
        with torch.inference_mode():
            batch = images.normalised(*piece)
            if dense is None:
                labels = images.labels[slice(*piece)]
                return torch.stack([(module(batch).argmax(1) == labels).sum() for module in pair])
            wanted = tensors_in(dense(batch))
            first, second = (_distances(tensors_in(module(batch)), wanted) for module in pair)
            return torch.stack([(first <= second).sum(), (second < first).sum()])

    with FORWARD_LOCK:
        counts = sum(each(count, split(0, len(images), batch_size(images), device), device))
    assert isinstance(counts, Tensor)
    named = dict(zip(networks, counts.tolist(), strict=True))
    return named, "right about" if classifies else "nearer the dense network on"


def _distances(answers: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """How far each image's outputs are from those that are wanted, (B,): squared, each tensor by its own size."""
    apart = [((a - b).square().flatten(1).mean(1), b.square().mean()) for a, b in zip(answers, wanted, strict=True)]
    return torch.stack([distance / size.clamp_min(1e-12) for distance, size in apart]).sum(0)


def _key(
    pruned: PrunedNetwork, images: ImageSet, config: CalibrationConfig, ridge: float, device: torch.device
) -> Hashable:
    """What a repair's result depends on."""
    return pruned.digest, config, images.serial, len(images), str(device), ridge


REPAIRED = RecoveryMethod(
    "repaired",
    "Repaired",
    "Layers are refitted by least squares to make from what is left what the dense network made; no gradients.",
    repaired_work,
    needs_images=True,
    passes=5.0,
)
