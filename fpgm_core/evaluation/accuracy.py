"""Measuring a plan: accuracy on the first n images of a split, streamed, with its change against dense."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from fpgm_core.data import SPLITS, Batch, ImageSet, get_data, load_images
from fpgm_core.errors import FpgmError
from fpgm_core.evaluation.intervals import Interval, change_between, paired_change, wilson
from fpgm_core.graph import overlay
from fpgm_core.inference import Chain, folded_module
from fpgm_core.inference.device_images import on_device
from fpgm_core.inference.fusing import fused
from fpgm_core.pruning import Network, Plan
from fpgm_core.recovery import (
    FIRST_IMAGES,
    IMAGES,
    Mended,
    batch_norms_of,
    get_recovery_method,
    mended_steps,
    mends,
    recalibrate,
)
from fpgm_core.runtime.cache import clear_caches
from fpgm_core.runtime.cores import each, split, workers
from fpgm_core.runtime.device import choose_device, choose_precision, give_up, is_loss, lost_devices, to_device
from fpgm_core.runtime.distributed import world
from fpgm_core.runtime.locks import FORWARD_LOCK

# Small enough that activations stay in a CPU's caches (bfloat16's are half as large), large enough to fill a GPU.
BATCH = {
    ("cpu", torch.float32): 100,
    ("cpu", torch.bfloat16): 250,
    ("cuda", torch.float32): 1000,
    ("cuda", torch.bfloat16): 1000,
    ("mps", torch.float32): 500,
    ("mps", torch.bfloat16): 500,
}
_LARGEST = dict(BATCH)  # what the devices' memory has held so far: halved where it did not
FIRST_FIGURE_IMAGES = 250
_Told = Iterator["Figure | Repairing | None"]
# bfloat16 moves a logit by about half of this times the logits' size (bundled networks, 5,000 images, dense
# and pruned: the rightful winner never trailed by more than 0.19, where this is 0.25 and more).
_DOUBT = 8 * torch.finfo(torch.bfloat16).eps


@dataclass(frozen=True)
class EvaluationConfig:
    """How to measure: on the first `images` of a split (None: all), on which of the RECOVERY_METHODS, where.

    `data_root` is a folder with the user's own copy of the data set; None takes the bundled images.
    In bfloat16 every image that rounding might have decided is asked again in float32: the count is float32's.
    """

    split: str = "choose"
    images: int | None = None
    rung: str = "recalibrated"
    device: str = "auto"
    precision: str = "auto"
    data_root: Path | None = None

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise FpgmError(f"unknown split {self.split!r}; choose one of {', '.join(SPLITS)}")
        get_recovery_method(self.rung)


@dataclass(frozen=True)
class Repairing:
    """A measurement that repairs the network first: the share of that which is done, 0..1."""

    share: float


@dataclass(frozen=True)
class Figure:
    """What has been measured so far of one plan.

    `state` is "provisional" (recalibrated on 256 images, few images), "measuring" (a running figure) or
    "exact" (all that was asked for). `correct` and `dense_correct` count right answers among the same
    first `images`; `both` those that both give. `total` is how many images were asked for; `seconds`
    the time since the measurement began. `batch` images were classified at once at most: fewer than usual,
    and `short_of_memory`, where the device could not hold more. `lost` names devices that failed in this process,
    and that `auto` would have measured on. `rung` is the one the network stands on: "recalibrated" where a repair did
    worse than that, and was given up; `recalibration_images` counts the training images it took. An exact figure also
    has `hits`: which of the images were classified rightly, as bits (`np.packbits`); the others have None.
    """

    state: str
    correct: int
    dense_correct: int
    both: int
    images: int
    total: int
    recalibration_images: int
    device: str
    precision: str
    seconds: float
    batch: int
    lost: tuple[str, ...] = ()
    rung: str = "as_is"
    hits: bytes | None = field(default=None, repr=False, compare=False)

    @property
    def short_of_memory(self) -> bool:
        """Whether batches had to be made smaller."""
        return self.batch < BATCH[self.device, getattr(torch, self.precision)]

    @property
    def accuracy(self) -> Interval:
        """The accuracy with Wilson's 95% interval, fractions in 0..1."""
        return wilson(self.correct, self.images)

    @property
    def dense_accuracy(self) -> Interval:
        """The dense network's accuracy on the same images."""
        return wilson(self.dense_correct, self.images)

    @property
    def change(self) -> Interval:
        """Accuracy minus the dense network's on the same images, with the paired 95% interval."""
        only_new, only_old = self.correct - self.both, self.dense_correct - self.both
        return paired_change(self.both, only_new, only_old, self.images - self.both - only_new - only_old)

    @property
    def right(self) -> np.ndarray:
        """Which images were classified rightly, bool (images,). Raises FpgmError for a figure that is not exact."""
        if self.hits is None:
            raise FpgmError(f"a {self.state} figure does not say which images were right; wait for the exact one")
        return np.unpackbits(np.frombuffer(self.hits, np.uint8), count=self.images).astype(bool)

    def against(self, other: Figure) -> Interval:
        """This accuracy minus another figure's on the same images, with the paired 95% interval.

        Both must be of one split and data set. Raises FpgmError where either is not exact, or their images differ in
        number.
        """
        return change_between(self.right, other.right)


def measure(
    network: Network,
    plan: Plan,
    settings: EvaluationConfig = EvaluationConfig(),
    first_figure: bool = True,
    late: bool = True,
) -> Iterator[Figure | Repairing | None]:
    """Measure a plan, one batch of work between two yields; stop iterating to cancel.

    Yields None while there is nothing new to show, figures otherwise: with `first_figure` a provisional
    one early, then running ones, and last the exact one. On a rung that replaces weights it says how far that is
    before, and has no provisional one. The dense network is never recalibrated, and
    neither is a plan that prunes nothing. What late layers are given is remembered, for whoever moves one of them
    next; unless `late`, only what comes before the first layer that is new.

    Raises FpgmError for a network without trained weights, a plan that does not fit, a data set or a device that is
    not here; and at the first step, which reads the images, where those are incomplete or fewer than asked for.
    """
    if not network.trained:
        raise FpgmError(f"cannot evaluate: {network.notice}")
    network.check(plan)
    get_data(network.dataset)
    network.cost(plan)  # a plan that leaves nothing is refused here, not in the middle
    return _somewhere(network, settings, lambda runner: _measure(runner, plan, settings, first_figure, late))


def _somewhere(network: Network, settings: EvaluationConfig, begin: Callable[[_Runner], _Told]) -> _Told:
    """A measurement on the device that is asked for; where that one fails and none was named, again on another."""
    return _or_elsewhere(_Runner.create(network, settings), settings, begin)  # what is wrong is said at once


def _or_elsewhere(runner: _Runner, settings: EvaluationConfig, begin: Callable[[_Runner], _Told]) -> _Told:
    try:
        yield from begin(runner)
    except Exception as error:
        if runner.device.type == "cpu" or not is_loss(error):
            raise
        give_up(runner.device)
        if settings.device != "auto":
            said = str(error).partition("\n")[0]
            raise FpgmError(f"the {runner.device.type} device failed ({said}); choose device auto or cpu") from error
    else:
        return
    yield from _or_elsewhere(_Runner.create(runner.network, settings), settings, begin)


def _measure(runner: _Runner, plan: Plan, settings: EvaluationConfig, first_figure: bool, late: bool) -> _Told:
    dataset, rung = runner.network.dataset, settings.rung
    images = load_images(dataset, settings.split, settings.data_root)
    images = images if settings.images is None else images.first(settings.images)
    if runner.network.prune(plan).prunes_nothing:
        yield from runner.stream(None, images, 0, "measuring")
        return
    needed = get_recovery_method(rung).needs != "nothing"
    training = load_images(dataset, "train", settings.data_root) if needed else None
    if mends(rung):
        yield from _measure_mended(runner, plan, rung, images, training)
        return
    module = Chain.cut(runner.compact(plan), f"training {runner.dtype}", late)
    seen, first_due = 0, first_figure and len(images) > FIRST_FIGURE_IMAGES
    if training is not None and batch_norms_of(module):
        resident = runner.resident(training.first(min(IMAGES, len(training))))
        for seen in recalibrate(module, resident, runner.dtype):
            if first_due and seen >= FIRST_IMAGES:
                first_due = False
                first = images.first(FIRST_FIGURE_IMAGES)
                yield from runner.stream(module, first, seen, "provisional", "recalibrated")
            else:
                yield None
    yield from runner.stream(module, images, seen, "measuring", "recalibrated" if seen else "as_is")


def _measure_mended(runner: _Runner, plan: Plan, rung: str, images: ImageSet, training: ImageSet | None) -> _Told:
    masks = runner.network.keep_masks(plan)
    mended: Mended | float = 0.0
    for step in mended_steps(runner.network, masks, rung, training, runner.device):
        mended = step
        yield Repairing(step) if isinstance(step, float) else None
    assert isinstance(mended, Mended)
    module = Chain([to_device(mended.compact(runner.network, aligned=True), runner.device)])
    yield from runner.stream(module, images, mended.images, "measuring", mended.rung)


def measure_network(
    network: Network, module: nn.Module, settings: EvaluationConfig = EvaluationConfig(), recalibrated_on: int = 0
) -> Iterator[Figure]:
    """Measure a compact network as it is, fine-tuned say, against the dense one it came from; as `measure`, streamed.

    The network's weights are copied to the device; it is not changed. Raises FpgmError as `measure` does.
    """
    if not network.trained:
        raise FpgmError(f"cannot evaluate: {network.notice}")
    images = load_images(network.dataset, settings.split, settings.data_root)
    images = images if settings.images is None else images.first(settings.images)

    def begin(runner: _Runner) -> _Told:
        return runner.stream(
            Chain([to_device(overlay(module, {}), runner.device)]), images, recalibrated_on, "measuring"
        )

    for figure in _somewhere(network, settings, begin):
        assert isinstance(figure, Figure)
        yield figure


def correct_steps(network: Callable[[Tensor], Tensor], images: ImageSet) -> Iterator[tuple[int, int]]:
    """Classify `images` in float32 where they are: after each batch, how many were seen and how many were right.

    For any function of normalised images (B, C, H, W); it is given none but these.
    """
    size, right = BATCH[images.pixels.device.type, torch.float32], 0
    for begin in range(0, len(images), size):
        end = min(begin + size, len(images))
        with FORWARD_LOCK, torch.inference_mode():
            answers = network(images.normalised(begin, end)).argmax(1)
        right += int((answers == images.labels[begin:end]).sum())
        yield end, right


def evaluate(network: Network, plan: Plan, settings: EvaluationConfig = EvaluationConfig()) -> Figure:
    """The exact figure of a plan, without the provisional one. Raises FpgmError as `measure` does."""
    for figure in measure(network, plan, settings, first_figure=False):
        last = figure
    assert isinstance(last, Figure)
    return last


@dataclass(frozen=True)
class _Runner:
    """One network on one device in one precision, with a clock."""

    network: Network
    device: torch.device
    dtype: torch.dtype
    start: float

    @classmethod
    def create(cls, network: Network, settings: EvaluationConfig) -> _Runner:
        device = choose_device(settings.device)
        return cls(network, device, choose_precision(settings.precision, device), time.perf_counter())

    def compact(self, plan: Plan) -> GraphModule:
        """The compact network on the device, convolutions in channels_last."""
        return to_device(self.network.prune(plan).compact(aligned=True), self.device)

    def folded(self, chain: Chain) -> Chain:
        """The same network with its norms folded, remembering what its parts make of images to classify."""
        parts = [folded_module(part, self.network.flow) for part in chain.parts]
        return Chain.remembering(
            [fused(part, self.dtype, given=index > 0) for index, part in enumerate(parts)], str(self.dtype), chain.late
        )

    def resident(self, images: ImageSet) -> ImageSet:
        return on_device(images, self.device)

    def stream(
        self, module: Chain | None, images: ImageSet, recalibrated_on: int, state: str, rung: str = "as_is"
    ) -> Iterator[Figure | None]:
        """Classify `images` batch by batch; a running figure after each, marked `state`, the last one "exact".

        Without a module it is the dense one. A provisional stream gives one figure, at its end.
        """
        module = module and self.folded(module)
        resident, size = self.resident(images), self.stride
        hits = _dense_hits(self.network.fingerprint, resident, self)
        counts = torch.zeros(3, dtype=torch.long, device=self.device)  # no synchronisation until they are read
        found: list[Tensor] = []
        for begin in range(0, len(images), size):
            end = min(begin + size, len(images))
            dense = hits.upto(end)[begin:end]
            right = dense if module is None else self.hits(module, resident, begin, end)
            counts += torch.stack([right.sum(), dense.sum(), (right & dense).sum()])
            last = end == len(images)
            if state == "measuring":
                found.append(right)
            elif not last:
                yield None
                continue
            correct, dense_correct, both = counts.tolist()
            yield Figure(
                "exact" if last and state == "measuring" else state,
                correct,
                dense_correct,
                both,
                end,
                len(images),
                recalibrated_on,
                self.device.type,
                str(self.dtype).removeprefix("torch."),
                time.perf_counter() - self.start,
                _LARGEST[self.device.type, self.dtype],
                lost_devices(),
                rung,
                _bits(found) if last and found else None,
            )

    @property
    def stride(self) -> int:
        """How many images are classified between two yields: a batch for every core of a CPU."""
        return BATCH[self.device.type, self.dtype] * workers(self.device) * world().count

    def hits(self, network: Chain, images: ImageSet, begin: int, end: int) -> Tensor:
        """Which of images `begin` to `end` are classified rightly, bool (end - begin,), on the device."""

        def right_of(piece: tuple[int, int]) -> Tensor:
            batch = Batch(images, *piece)
            with torch.inference_mode():
                if self.dtype == torch.float32:
                    return network.run(batch)[0].argmax(1) == batch.labels
                return self._right_in_low_precision(network, batch)

        # Under torchrun each process answers for its own part of them.
        here, size = world(), end - begin
        low, high = begin + size * here.rank // here.count, begin + size * (here.rank + 1) // here.count
        right = torch.zeros(size, dtype=torch.uint8, device=self.device)
        if high > low:
            with FORWARD_LOCK:
                right[low - begin : high - begin] = self._piecewise(right_of, low, high)
        return here.total(right).bool()

    def _piecewise(self, right_of: Callable[[tuple[int, int]], Tensor], begin: int, end: int) -> Tensor:
        """What it says of images `begin` to `end`, in batches that are halved where memory does not hold them."""
        kind = self.device.type, self.dtype
        while True:
            try:
                pieces = split(begin, end, _LARGEST[kind], self.device)
                return torch.cat(each(right_of, pieces, self.device))
            except torch.OutOfMemoryError as error:
                if _LARGEST[kind] == 1:
                    raise FpgmError(
                        f"the {self.device.type} device has no memory for a single image; close what else uses it, "
                        "or choose another device"
                    ) from error
                _LARGEST[kind] //= 2
            clear_caches(self.device)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _right_in_low_precision(self, network: Chain, batch: Batch) -> Tensor:
        """Which of a batch are classified rightly, bool (B,): by bfloat16, where rounding might decide by float32."""
        with torch.autocast(self.device.type, self.dtype):
            logits = network.run(batch)[0].float()
        own = batch.labels[:, None]
        lead = logits.gather(1, own)[:, 0] - logits.scatter(1, own, -torch.inf).amax(1)
        # Which of two wrong classes wins does not matter: only a lead, or a lag, of the right one can be too small.
        close = lead.abs() < _DOUBT * logits.square().mean().sqrt()
        right = lead > 0
        if close.any():
            right[close] = network(batch.normalised(close)).argmax(1) == batch.labels[close]
        return right


def _bits(hits: list[Tensor]) -> bytes:
    """Bool tensors, one after the other, as bits."""
    return np.packbits(torch.cat(hits).cpu().numpy()).tobytes()


class _DenseHits:
    """Which images of a split the dense network classifies rightly, found as far as asked."""

    def __init__(self, images: ImageSet, runner: _Runner) -> None:
        self._images = images
        self._runner = runner
        dense = folded_module(runner.compact(runner.network.plan()), runner.network.flow)
        self._network = Chain([fused(dense, runner.dtype)])
        self._known = torch.zeros(0, dtype=torch.bool, device=runner.device)
        self._lock = threading.Lock()

    def upto(self, count: int) -> Tensor:
        """Bool (at least `count`,)."""
        with self._lock:
            while len(self._known) < count:
                begin = len(self._known)
                end = min(begin + self._runner.stride, len(self._images))
                self._known = torch.cat([self._known, self._runner.hits(self._network, self._images, begin, end)])
            return self._known


_DENSE: OrderedDict[tuple[object, ...], _DenseHits] = OrderedDict()
_DENSE_LIMIT = 16
_DENSE_LOCK = threading.Lock()


def _dense_hits(fingerprint: str, images: ImageSet, runner: _Runner) -> _DenseHits:
    key = (fingerprint, images.pixels.data_ptr(), len(images), str(runner.device), str(runner.dtype))
    with _DENSE_LOCK:
        if key not in _DENSE:
            _DENSE[key] = _DenseHits(images, runner)
        _DENSE.move_to_end(key)
        while len(_DENSE) > _DENSE_LIMIT:
            _DENSE.popitem(last=False)
        return _DENSE[key]
