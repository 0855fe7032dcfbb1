"""The project's speed, each figure beside its baseline from the same run and beside the machine's own limit."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from fpgm_core.criteria import distance_sums
from fpgm_core.data import ImageSet, load_images
from fpgm_core.evaluation import (
    RATES,
    SWEPT,
    EvaluationConfig,
    Figure,
    measure,
    measure_network,
    sweep_steps,
    time_pass,
)
from fpgm_core.graph import weights_of
from fpgm_core.inference import memory
from fpgm_core.pruning import Network, Plan
from fpgm_core.recovery import BATCH, IMAGES, batch_norms_of, recalibrate
from fpgm_core.runtime.device import choose_device, choose_precision, to_device
from fpgm_core.runtime.extras import require
from fpgm_core.runtime.torchvision_import import import_torchvision

_LOOP_BATCH = 128
_SCORED = ("resnet50", "vgg16")


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
    """What is measured on: a network, where, and how many test images (all 10,000 unless a quick look is wanted)."""

    network: Network
    device: torch.device
    images: int

    @classmethod
    def create(cls, device: str = "auto", images: int = 10_000) -> Bench:
        """ResNet-20 on a CPU, ResNet-56 elsewhere. Raises FpgmError for a device that is not there."""
        place = choose_device(device)
        return cls(Network.load("resnet20" if place.type == "cpu" else "resnet56"), place, images)

    @property
    def name(self) -> str:
        """The network's name."""
        return self.network.name

    @property
    def precision(self) -> torch.dtype:
        """What `auto` measures in here."""
        return choose_precision("auto", self.device)

    def settings(self, **fields: object) -> EvaluationConfig:
        """EvaluationConfig on this device: all the bench's images unless `fields` say otherwise."""
        given = {"split": "all", "images": self.images, "device": self.device.type, **fields}
        return EvaluationConfig(**given)  # type: ignore[arg-type]

    def figure(self, plan: Plan, settings: EvaluationConfig) -> tuple[float, Figure]:
        """Seconds to the exact figure of a plan, and the figure."""
        start = time.perf_counter()
        *_, figure = measure(self.network, plan, settings, first_figure=False)
        assert isinstance(figure, Figure)
        return time.perf_counter() - start, figure

    def from_nothing(self, plan: Plan, settings: EvaluationConfig, runs: int = 3) -> tuple[float, Figure]:
        """The median of several such times, nothing remembered of earlier plans, and the figure."""
        times = []
        for _ in range(runs):
            memory(self.device).clear()
            seconds, figure = self.figure(plan, settings)
            times.append(seconds)
        return statistics.median(times), figure

    def warm(self) -> None:
        """Have the dense network's answers, which every measurement shares, and all that is loaded once."""
        self.figure(self.network.plan(), self.settings())


def evaluation(bench: Bench) -> Result:
    """A plan's accuracy, as is, against the loop people write."""
    plan = bench.network.plan(0.4, coupling="coupled")
    bench.warm()
    seconds, figure = bench.from_nothing(plan, bench.settings(rung="as_is"))
    masked = bench.network.prune(plan).masked().to(bench.device)
    start = time.perf_counter()
    right = _count(masked, _subset("all", bench.images), bench.device)
    return Result(
        "evaluation",
        f"{bench.name}, coupled 40%, {bench.images:,} images, {_short(bench.precision)}",
        seconds,
        f"DataLoader with ToTensor and Normalize, batch {_LOOP_BATCH}, float32, masked",
        time.perf_counter() - start,
        {"correct": figure.correct, "baseline_correct": right},
    )


def limit(bench: Bench) -> Iterator[Result]:
    """Dense and compact network against what one large matrix product reaches, by MACs a second."""
    rate = _product_rate(bench.device, bench.precision)
    for title, plan in (
        ("dense", bench.network.plan()),
        ("coupled 40%", bench.network.plan(0.4, coupling="coupled")),
    ):
        module = bench.network.prune(plan).compact()
        seconds = _median_seconds(partial(_classify, bench, module))
        macs = bench.network.cost(plan).macs * bench.images
        yield Result(
            f"limit, {title}",
            f"{bench.name}, {title}, {bench.images:,} images, {_short(bench.precision)}",
            seconds,
            "as many MACs in one large matrix product",
            macs / rate,
            {"gmacs_per_second": macs / seconds / 1e9, "limit_gmacs_per_second": rate / 1e9},
        )


def changed(bench: Bench) -> Result:
    """A unit of the last block moved again, against the same plan from nothing."""
    settings = bench.settings(split="choose", images=min(5000, bench.images))
    last = bench.network.units("inner")[-1].name
    plan = bench.network.plan(0.4, coupling="inner")
    bench.warm()
    whole, expected = bench.from_nothing(plan.with_rates({last: 0.7}), settings)
    times = []
    for rate in (0.1, 0.2, 0.3, 0.5, 0.7):
        seconds, figure = bench.figure(plan.with_rates({last: rate}), settings)
        times.append(seconds)
    return Result(
        "changed",
        f"{bench.name}, {last} moved again, {settings.images:,} images",
        statistics.median(times[1:]),
        "the whole network",
        whole,
        {"correct": figure.correct, "baseline_correct": expected.correct},
    )


def first_answer(bench: Bench) -> Result:
    """The provisional figure of a plan never seen, against its exact one."""
    settings = bench.settings(split="choose", images=min(5000, bench.images))
    bench.warm()
    firsts, ends = [], []
    for rate in (0.2, 0.3, 0.4):
        memory(bench.device).clear()
        start = time.perf_counter()
        told = [
            (time.perf_counter() - start, figure)
            for figure in measure(bench.network, bench.network.plan(rate), settings)
            if isinstance(figure, Figure)
        ]
        firsts.append(told[0][0])
        ends.append(told[-1][0])
    figure = told[-1][1]
    alone = (figure.accuracy, figure.dense_accuracy)
    return Result(
        "first answer",
        f"{bench.name}, independent, recalibrated: the provisional figure",
        statistics.median(firsts),
        "the exact figure",
        statistics.median(ends),
        {
            "paired_width": figure.change.high - figure.change.low,
            "unpaired_width": math.hypot(*(one.high - one.low for one in alone)),
        },
    )


def recalibration(bench: Bench) -> Result:
    """Recalibration against classifying the test images."""
    plan = bench.network.plan(0.4)
    bench.warm()
    module = to_device(bench.network.prune(plan).compact(aligned=True), bench.device)
    training = load_images("cifar10", "train").first(IMAGES).to(bench.device)
    took = _median_seconds(lambda: list(recalibrate(module, training, bench.precision)))
    seconds, _ = bench.from_nothing(plan, bench.settings(rung="as_is"))
    return Result(
        "recalibration",
        f"{bench.name}, independent 40%, statistics of {IMAGES:,} images",
        took,
        f"classifying {bench.images:,} images",
        seconds,
    )


def sensitivity(bench: Bench) -> Result:
    """The sweep of every unit, against each of its points by the loop people write."""
    settings = replace(SWEPT, device=bench.device.type, images=min(bench.images, SWEPT.images or bench.images))
    bench.warm()
    memory(bench.device).clear()
    start = time.perf_counter()
    *_, sweep = sweep_steps(bench.network, settings=settings, kept=False)
    seconds = time.perf_counter() - start
    middle = bench.network.units("inner")[len(bench.network.units("inner")) // 2].name
    masked = bench.network.prune(bench.network.plan({middle: 0.5}, coupling="inner")).masked().to(bench.device)

    def point() -> None:
        _recalibrate(masked, _subset("train", IMAGES), bench.device)
        _count(masked, _subset("choose", settings.images or 0), bench.device)

    one = _median_seconds(point)
    return Result(
        "sensitivity",
        f"{bench.name}, {sweep.total} points ({len(RATES)} rates a unit), recalibrated, {settings.images:,} images",
        seconds,
        f"DataLoader loops, masked: one point ({middle} at 50%), times {sweep.total}",
        one * sweep.total,
    )


def scoring(bench: Bench) -> Iterator[Result]:
    """g of every layer's filters, against scipy's distances, as the paper's code has it."""
    cdist = require("scipy.spatial.distance", extra="test").cdist
    for name in _SCORED:
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
        found = BENCHES[name](bench)
        yield from [found] if isinstance(found, Result) else found


def _median_seconds(work: Callable[[], object], runs: int = 3) -> float:
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _classify(bench: Bench, module: nn.Module) -> None:
    for _ in measure_network(bench.network, module, bench.settings()):
        pass


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """MACs a second of a large square matrix product, the best of several."""
    size = 4096 if device.type == "cpu" else 8192
    one, other = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return size**3 / min(time_pass(lambda x: x @ other, one) for _ in range(5))


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


def _subset(split: str, images: int) -> ImageSet:
    return load_images("cifar10", split).first(images)


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
