"""Measuring a pruned network: its accuracy on images, streamed, with its change against the dense network."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from fpgm_core.data import ImageSet
from fpgm_core.errors import FpgmError
from fpgm_core.evaluation.measurement import Measurement
from fpgm_core.evaluation.scored import Score, ScoredMeasurement, scored_work
from fpgm_core.inference import FEW_CLASSES, TOP, Chain, Classifier, compact_on, dense_answers, on_device
from fpgm_core.pruning import PrunedNetwork
from fpgm_core.recovery import NUM_IMAGES, RecoveryContext, get_recovery_method
from fpgm_core.runtime.device import choose_device, choose_precision, give_up, is_loss, lost_devices
from fpgm_core.runtime.progress import Progress, Work, run, timed, within

PREVIEW_IMAGES, _FEWEST = 250, 50  # that a provisional measurement is on: of 32 x 32, and of large ones
# What is counted among the images, in this order: fields of a Measurement.
_COUNTS = ("num_correct", "num_dense_correct", "num_both_correct", "num_correct_top5", "num_dense_correct_top5")


@dataclass(frozen=True)
class EvaluationConfig:
    """Where to measure, and in which precision; "auto" takes the best that is there.

    In bfloat16 every image that rounding might have decided is re-evaluated in float32: the counts are float32's.
    """

    device: str = "auto"
    precision: str = "auto"


@overload
def evaluate(pruned: PrunedNetwork, images: ImageSet, config: EvaluationConfig = ...) -> Measurement: ...


@overload
def evaluate(
    pruned: PrunedNetwork, images: ImageSet | Iterable[Any], config: EvaluationConfig = ..., *, score: Score
) -> ScoredMeasurement: ...


def evaluate(
    pruned: PrunedNetwork,
    images: ImageSet | Iterable[Any],
    config: EvaluationConfig = EvaluationConfig(),
    *,
    score: Score | None = None,
) -> Measurement | ScoredMeasurement:
    """The exact measurement of a pruned network as it is.

    With `score`, a function of a network and a batch that gives a number an image, that metric is measured instead of
    accuracy: for networks that do not classify, see `scored_work`. Raises FpgmError as `measure_work` and `scored_work`
    do.
    """
    if score is not None:
        if config.precision == "bfloat16":
            raise FpgmError("a score is measured in float32; leave the precision at auto")
        return run(scored_work(pruned, images, score, device=config.device))
    if not isinstance(images, ImageSet):
        raise FpgmError(
            f"accuracy is measured on an ImageSet, not a {type(images).__name__}; make one, or give a score"
        )
    return run(measure_work(pruned, images, config=config, preview=False))


def measure_work(
    pruned: PrunedNetwork,
    images: ImageSet,
    *,
    method: str = "as_is",
    training: ImageSet | None = None,
    config: EvaluationConfig = EvaluationConfig(),
    preview: bool = True,
    remember_late: bool = True,
    keep: Callable[[PrunedNetwork], object] = lambda recovered: None,
) -> Work[Measurement]:
    """Recover a pruned network by `method` from `training` images, then measure it, one batch between two steps.

    Progress has the time left, once there is a pace. One whose `partial` is a Measurement has a new one: with `preview`
    a provisional one early, where the method offers a provisional result; then running ones. A network that prunes
    nothing is the dense one, and is not recovered. What late layers make of images is remembered, for whoever moves one
    of them next; unless `remember_late`, only what comes before the first layer that is new. `keep` is given
    the recovered network before it is measured.

    Where the device fails and `config` says "auto", everything begins again on another. Raises FpgmError at once for a
    network without trained weights, labels beyond its classes, a method or a device that is not there, and a method
    that needs training images and gets none.
    """
    if not pruned.network.trained:
        raise FpgmError(f"cannot evaluate: {pruned.network.notice}")
    if training is None and get_recovery_method(method).needs_images:
        raise FpgmError(f"{method} reads training images; give some")
    classes = pruned.network.num_classes
    if classes is None:
        raise FpgmError(
            f"{pruned.network.name} does not answer with one tensor of logits (B, classes), so no accuracy can be "
            "measured; wrap it in a module that returns its logits, or give evaluate() a score of your own"
        )
    if images.highest_label >= classes:
        raise FpgmError(
            f"{images.name} has labels up to {images.highest_label}, and {pruned.network.name} has {classes} classes; "
            "give images of the classes that it was trained on"
        )
    pruned.live  # noqa: B018  a plan that leaves nothing is refused here, not in the middle

    def begin(session: _Evaluation) -> Work[Measurement]:
        return session.work(pruned, images, method, training, preview, remember_late, keep)

    return timed(_on_some_device(_Evaluation.create(config), config, begin))


def _preview(images: ImageSet) -> int:
    """On how many images a provisional measurement is: fewer of large ones, so that it comes as soon."""
    height, width = images.pixels.shape[1:3]
    return min(PREVIEW_IMAGES, max(_FEWEST, PREVIEW_IMAGES * 32 * 32 // (height * width)))


def _recovery_share(method: str, training: ImageSet | None, images: ImageSet) -> float:
    """The share of the whole that recovery takes, roughly, in forward passes: for progress and the time left."""
    record = get_recovery_method(method)
    passes = record.passes * min(len(training), NUM_IMAGES) if training is not None else 0.0
    return min(0.95, passes / (passes + 2 * len(images)))  # measured beside the dense network


def _on_some_device(
    session: _Evaluation, config: EvaluationConfig, begin: Callable[[_Evaluation], Work[Measurement]]
) -> Work[Measurement]:
    """Work on a device; where that fails and none was named, again on another."""
    try:
        return (yield from begin(session))
    except Exception as error:
        device = session.classifier.device
        if device.type == "cpu" or not is_loss(error):
            raise
        give_up(device)
        if config.device != "auto":
            said = str(error).partition("\n")[0]
            raise FpgmError(f"the {device.type} device failed ({said}); choose device auto or cpu") from error
    return (yield from _on_some_device(_Evaluation.create(config), config, begin))


@dataclass(frozen=True)
class _Evaluation:
    """One measurement under way on one device, with a clock."""

    classifier: Classifier
    start: float

    @classmethod
    def create(cls, config: EvaluationConfig) -> _Evaluation:
        device = choose_device(config.device)
        return cls(Classifier(device, choose_precision(config.precision, device)), time.perf_counter())

    def work(
        self,
        pruned: PrunedNetwork,
        images: ImageSet,
        method: str,
        training: ImageSet | None,
        preview: bool,
        remember_late: bool,
        keep: Callable[[PrunedNetwork], object],
    ) -> Work[Measurement]:
        begin = 0.0
        if not pruned.prunes_nothing:
            context = RecoveryContext(self.classifier.device, self.classifier.dtype, remember_late)
            recovery = get_recovery_method(method).work(pruned, training, context)
            share = _recovery_share(method, training, images)
            recovered = yield from self._recover(recovery, images if preview else None, share)
            begin = share if recovered is not pruned else 0.0
            pruned = recovered
        keep(pruned)
        return (yield from within(self.measure(pruned, images, remember_late=remember_late), begin))

    def _recover(self, recovery: Work[PrunedNetwork], images: ImageSet | None, share: float) -> Work[PrunedNetwork]:
        """The recovered network; a provisional one is measured on the way, on the first of `images`, if there are."""
        recovering = within(recovery, 0.0, share)
        with closing(recovering):
            while True:
                try:
                    progress = next(recovering)
                except StopIteration as end:
                    recovered: PrunedNetwork = end.value
                    return recovered
                offered, provisional = progress.partial, None
                count = 0 if images is None else _preview(images)
                if isinstance(offered, PrunedNetwork) and images is not None and len(images) > count:
                    measuring = self.measure(offered, images.first(count), state="provisional")
                    provisional = yield from within(measuring, progress.done, progress.done)
                yield replace(progress, partial=provisional)

    def measure(
        self, pruned: PrunedNetwork, images: ImageSet, *, state: str = "exact", remember_late: bool = True
    ) -> Work[Measurement]:
        """Classify `images` batch by batch; each Progress has a running measurement, the result is marked `state`."""
        classifier, resident = self.classifier, on_device(images, self.classifier.device)
        network = None if pruned.prunes_nothing and not pruned.tensors else self._chain(pruned, remember_late)
        dense = dense_answers(pruned.network, resident, classifier)
        counts = torch.zeros(len(_COUNTS), dtype=torch.long, device=classifier.device)  # read as seldom as can be
        answers: list[Tensor] = []
        stride = classifier.stride(images)
        for begin in range(0, len(images), stride):
            end = min(begin + stride, len(images))
            dense_ranks = dense.up_to(end, resident)[begin:end]
            ranks = dense_ranks if network is None else classifier.ranks(network, resident, begin, end)
            right, dense_right = ranks == 0, dense_ranks == 0
            among = right, dense_right, right & dense_right, ranks < TOP, dense_ranks < TOP
            counts += torch.stack([which.sum() for which in among])
            answers.append(right)
            if end == len(images):
                break
            running = None
            if state == "exact":
                running = self._measurement(pruned, counts, resident.first(end), len(images), "measuring")
            yield Progress(end, len(images), f"{end:,} of {len(images):,} images", partial=running)
        return self._measurement(pruned, counts, resident, len(images), state, answers)

    def _chain(self, pruned: PrunedNetwork, remember_late: bool) -> Chain:
        chain = pruned.prepared
        if not isinstance(chain, Chain):
            chain = Chain.plain(compact_on(pruned, self.classifier.device), remember_late)
        return self.classifier.quick(chain, pruned.network.flow)

    def _measurement(
        self,
        pruned: PrunedNetwork,
        counts: Tensor,
        images: ImageSet,
        num_total: int,
        state: str,
        answers: list[Tensor] | None = None,
    ) -> Measurement:
        """What was counted on `images`, the first of `num_total`."""
        counted: dict[str, int | None] = dict(zip(_COUNTS, counts.tolist(), strict=True))
        if (pruned.network.num_classes or 0) <= FEW_CLASSES:
            counted |= {name: None for name in _COUNTS if name.endswith("top5")}
        bits = np.packbits(torch.cat(answers).cpu().numpy()).tobytes() if answers and state == "exact" else None
        return Measurement(
            state=state,
            **counted,  # type: ignore[arg-type]
            num_images=len(images),
            num_total=num_total,
            device=self.classifier.device.type,
            precision=str(self.classifier.dtype).removeprefix("torch."),
            seconds=time.perf_counter() - self.start,
            batch=self.classifier.batch(images),
            short_of_memory=self.classifier.short_of_memory(images),
            lost_devices=lost_devices(),
            method=pruned.method,
            recovery_images=pruned.recovered_on,
            notice=pruned.notice,
            answers=bits,
        )
