"""The project's speed, each figure beside its baseline from the same run and beside the machine's own limit."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from fpgm_core.criteria import distance_sums
from fpgm_core.data import ImageSet, load_images
from fpgm_core.evaluation import (
    RATES,
    SWEEP_IMAGES,
    EvaluationConfig,
    Measurement,
    measure_work,
    sweep_work,
)
from fpgm_core.graph import weights_of
from fpgm_core.inference import PrefixCache, compact_on
from fpgm_core.pruning import Network, PrunedNetwork, RecoveryStep
from fpgm_core.recovery import BATCH, NUM_IMAGES, batch_norms_of, recalibrate
from fpgm_core.runtime.device import choose_device, choose_precision
from fpgm_core.runtime.progress import Progress, run
from fpgm_core.runtime.torchvision_import import import_torchvision
from fpgm_core.timing.runtimes import wait_for
from fpgm_core.timing.turns import lap

_LOOP_BATCH = 128


@dataclass(frozen=True)
class Result:
    """One figure: `seconds` for `what`, and `baseline_seconds` for the same done in the way `baseline` names.

    `notes` holds further measured numbers, by name.
    """

    name: str
    what: str
    seconds: float
    baseline: str
    baseline_seconds: float
    notes: Mapping[str, float] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """How many times as long the baseline took."""
        return self.baseline_seconds / self.seconds


@dataclass(frozen=True)
class Bench:
    """What is measured on: a network, where, and how many test images (all 10,000 unless a quick look is wanted).

    `num_training` images are recalibrated on, `rates` are the sweep's, `scored` the networks whose filters are scored;
    `limit` finds how many MACs a second a large matrix product reaches on a device in a precision.
    """

    network: Network
    device: torch.device
    images: int
    num_training: int = NUM_IMAGES
    rates: tuple[float, ...] = RATES
    scored: tuple[str, ...] = ("resnet50", "vgg16")
    limit: Callable[[torch.device, torch.dtype], float] = field(default_factory=lambda: product_rate)

    @classmethod
    def create(cls, device: str = "auto", images: int = 10_000, **options: Any) -> Bench:
        """ResNet-20 on a CPU, ResNet-56 elsewhere; `options` are the other fields.

        Raises FpgmError for a device that is not there.
        """
        place = choose_device(device)
        return cls(Network.load("resnet20" if place.type == "cpu" else "resnet56"), place, images, **options)

    @property
    def name(self) -> str:
        """The network's name."""
        return self.network.name

    @property
    def precision(self) -> torch.dtype:
        """What `auto` measures in here."""
        return choose_precision("auto", self.device)

    @property
    def config(self) -> EvaluationConfig:
        """On this device, in the precision that `auto` takes."""
        return EvaluationConfig(self.device.type)

    def split(self, name: str, most: int | None = None) -> ImageSet:
        """The first images of a split: as many as the bench has, or `most`, or there are."""
        images = load_images("cifar10", name)
        return images.first(min(len(images), self.images, most or len(images)))

    @property
    def training(self) -> ImageSet:
        """The images that networks are recalibrated on."""
        return load_images("cifar10", "train").first(self.num_training)

    def measure(
        self, pruned: PrunedNetwork, images: ImageSet, method: str = "recalibrated"
    ) -> tuple[float, Measurement]:
        """Seconds to the exact measurement of a pruned network, and the measurement."""
        training = self.training
        start = time.perf_counter()
        work = measure_work(pruned, images, method=method, training=training, config=self.config, preview=False)
        measurement = run(work)
        return time.perf_counter() - start, measurement

    def from_nothing(
        self, pruned: PrunedNetwork, images: ImageSet, method: str = "recalibrated", runs: int = 3
    ) -> tuple[float, Measurement]:
        """The median of several such times, nothing remembered of earlier plans, and the measurement."""
        times = []
        for _ in range(runs):
            PrefixCache.on(self.device).clear()
            seconds, measurement = self.measure(pruned, images, method)
            times.append(seconds)
        return statistics.median(times), measurement

    def warm(self) -> None:
        """Have the dense network's answers, which every measurement shares, and all that is loaded once."""
        for split in ("all", "choose"):
            self.measure(self.network.prune(0.0), self.split(split))


def evaluation(bench: Bench) -> Result:
    """A plan's accuracy, as is, against the loop people write."""
    pruned = bench.network.prune(0.4, coupling="coupled")
    bench.warm()
    seconds, measurement = bench.from_nothing(pruned, bench.split("all"), "as_is")
    masked = pruned.masked().to(bench.device)
    start = time.perf_counter()
    right = _count(masked, bench.split("all"), bench.device)
    return Result(
        "evaluation",
        f"{bench.name}, coupled 40%, {bench.images:,} images, {_short(bench.precision)}",
        seconds,
        f"DataLoader with ToTensor and Normalize, batch {_LOOP_BATCH}, float32, masked",
        time.perf_counter() - start,
        {"correct": measurement.num_correct, "baseline_correct": right},
    )


def limit(bench: Bench) -> Iterator[Result]:
    """Dense and compact network against what one large matrix product reaches, by MACs a second."""
    rate = bench.limit(bench.device, bench.precision)
    bench.warm()
    for title, pruned in (
        ("dense", bench.network.prune(0.0)),
        ("coupled 40%", bench.network.prune(0.4, coupling="coupled")),
    ):
        seconds, _ = bench.from_nothing(_unlike_dense(pruned), bench.split("all"), "as_is")
        macs = pruned.cost.macs * bench.images
        yield Result(
            f"limit, {title}",
            f"{bench.name}, {title}, {bench.images:,} images, {_short(bench.precision)}",
            seconds,
            "as many MACs in one large matrix product",
            macs / rate,
            {"gmacs_per_second": macs / seconds / 1e9, "limit_gmacs_per_second": rate / 1e9},
        )


def _unlike_dense(pruned: PrunedNetwork) -> PrunedNetwork:
    """The same with a tensor replaced by itself: the dense network's own answers are known, and are not computed."""
    name, parameter = next(iter(pruned.network.module.named_parameters()))
    return pruned.with_tensors({name: parameter}, RecoveryStep("as_is"))


def changed(bench: Bench) -> Result:
    """A unit of the last block moved again, against the same plan from nothing."""
    images = bench.split("choose")
    last = bench.network.units("inner")[-1].name
    plan = bench.network.plan(0.4, coupling="inner")
    bench.warm()
    whole, expected = bench.from_nothing(bench.network.prune(plan.with_rates({last: 0.7})), images)
    times = []
    for rate in (0.1, 0.2, 0.3, 0.5, 0.7):
        seconds, measurement = bench.measure(bench.network.prune(plan.with_rates({last: rate})), images)
        times.append(seconds)
    return Result(
        "changed",
        f"{bench.name}, {last} moved again, {len(images):,} images",
        statistics.median(times[1:]),
        "the whole network",
        whole,
        {"correct": measurement.num_correct, "baseline_correct": expected.num_correct},
    )


def first_answer(bench: Bench) -> Result:
    """The provisional measurement of a plan never seen, against its exact one."""
    images, training = bench.split("choose"), bench.training
    bench.warm()
    firsts, ends = [], []
    for rate in (0.2, 0.3, 0.4):
        PrefixCache.on(bench.device).clear()
        start = time.perf_counter()
        seen: list[float] = []

        def note(progress: Progress, start: float = start, seen: list[float] = seen) -> None:
            if progress.partial is not None:
                seen.append(time.perf_counter() - start)

        pruned = bench.network.prune(rate)
        work = measure_work(pruned, images, method="recalibrated", training=training, config=bench.config)
        measurement = run(work, note)
        ends.append(time.perf_counter() - start)
        firsts.append([*seen, ends[-1]][0])  # of few images the exact measurement is the first
    alone = (measurement.accuracy, measurement.dense_accuracy)
    return Result(
        "first answer",
        f"{bench.name}, independent, recalibrated: the provisional measurement",
        statistics.median(firsts),
        "the exact one",
        statistics.median(ends),
        {
            "paired_width": measurement.change.high - measurement.change.low,
            "unpaired_width": math.hypot(*(one.high - one.low for one in alone)),
        },
    )


def recalibration(bench: Bench) -> Result:
    """Recalibration against classifying the test images."""
    pruned = bench.network.prune(0.4)
    bench.warm()
    module = compact_on(pruned, bench.device)
    training = bench.training.to(bench.device)
    took = _median_seconds(lambda: list(recalibrate(module, training, bench.precision)))
    seconds, _ = bench.from_nothing(pruned, bench.split("all"), "as_is")
    return Result(
        "recalibration",
        f"{bench.name}, independent 40%, statistics of {bench.num_training:,} images",
        took,
        f"classifying {bench.images:,} images",
        seconds,
    )


def sensitivity(bench: Bench) -> Result:
    """The sweep of every unit, against each of its points by the loop people write."""
    images, training = bench.split("choose", SWEEP_IMAGES), bench.training
    bench.warm()
    PrefixCache.on(bench.device).clear()
    start = time.perf_counter()
    work = sweep_work(bench.network, images, training=training, rates=bench.rates, config=bench.config, use_cache=False)
    sweep = run(work)
    seconds = time.perf_counter() - start
    middle = bench.network.units("inner")[len(bench.network.units("inner")) // 2].name
    masked = bench.network.prune({middle: 0.5}, coupling="inner").masked().to(bench.device)

    def point() -> None:
        _recalibrate(masked, training, bench.device)
        _count(masked, images, bench.device)

    one = _median_seconds(point)
    return Result(
        "sensitivity",
        f"{bench.name}, {sweep.total} points ({len(bench.rates)} rates a unit), recalibrated, {len(images):,} images",
        seconds,
        f"DataLoader loops, masked: one point ({middle} at 50%), times {sweep.total}",
        one * sweep.total,
    )


def scoring(bench: Bench) -> Iterator[Result]:
    """g of every layer's filters, against scipy's distances, as the paper's code has it."""
    from scipy.spatial.distance import cdist

    for name in bench.scored:
        network = Network.load(name, "random")
        weights = [weights_of(network.module, layer.name) for layer in network.layers]
        start = time.perf_counter()
        ours = [distance_sums(filters).numpy() for filters in weights]
        seconds = time.perf_counter() - start
        flat = [filters.detach().reshape(len(filters), -1).numpy() for filters in weights]
        start = time.perf_counter()
        theirs = [cdist(filters, filters).sum(0) for filters in flat]
        took = time.perf_counter() - start
        same = sum(np.array_equal(np.argsort(a), np.argsort(b)) for a, b in zip(ours, theirs, strict=True))
        yield Result(
            f"scoring, {name}",
            f"{name}, {len(weights)} layers",
            seconds,
            "scipy's cdist, layer by layer",
            took,
            {"layers": len(weights), "same_order": int(same)},
        )


BENCHES: Mapping[str, Callable[[Bench], Result | Iterator[Result]]] = {
    "evaluation": evaluation,
    "limit": limit,
    "changed": changed,
    "first": first_answer,
    "recalibration": recalibration,
    "sensitivity": sensitivity,
    "scoring": scoring,
}


def run_benches(bench: Bench, names: Sequence[str] = tuple(BENCHES)) -> Iterator[Result]:
    """Each of the named benches, one after another."""
    for name in names:
        results = BENCHES[name](bench)
        yield from [results] if isinstance(results, Result) else results


def _median_seconds(work: Callable[[], object], runs: int = 3) -> float:
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """MACs a second of a large square matrix product, the best of several."""
    size = 4096 if device.type == "cpu" else 8192
    one, other = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))

    def product() -> None:
        torch.mm(one, other)
        wait_for(device)

    with torch.inference_mode():
        return size**3 / min(lap(product).seconds for _ in range(5))


class _Pictures(Dataset[tuple[torch.Tensor, int]]):
    """Images as torchvision's data sets hand them out: an array made a PIL image, then transformed, one at a time."""

    def __init__(self, images: ImageSet) -> None:
        transforms = import_torchvision("torchvision.transforms")
        self._pixels, self._labels = images.pixels.numpy(), images.labels.tolist()
        self._transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(images.mean, images.std)])

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self._transform(Image.fromarray(self._pixels[index])), self._labels[index]


@torch.no_grad()
def _count(network: nn.Module, images: ImageSet, device: torch.device) -> int:
    """Right answers, by the loop people write."""
    network.eval()
    correct = 0
    for batch, labels in DataLoader(_Pictures(images), _LOOP_BATCH):
        correct += int((network(batch.to(device)).argmax(1) == labels.to(device)).sum())
    return correct


@torch.no_grad()
def _recalibrate(network: nn.Module, images: ImageSet, device: torch.device) -> None:
    """Statistics re-estimated by the loop people write."""
    for norm in batch_norms_of(network):
        norm.reset_running_stats()
        norm.momentum = None
    network.train()
    for batch, _ in DataLoader(_Pictures(images), BATCH):
        network(batch.to(device))
    network.eval()
