"""Sensitivity: the accuracy a network loses when one unit alone is pruned, at one rate after another."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from typing import Any

from fpgm_core.criteria import check_rate
from fpgm_core.data import ImageSet
from fpgm_core.errors import FpgmError
from fpgm_core.evaluation.accuracy import EvaluationConfig, measure_work
from fpgm_core.evaluation.intervals import Interval, change_of_counts
from fpgm_core.evaluation.measurement import Measurement
from fpgm_core.pruning import Network, Plan
from fpgm_core.runtime.device import choose_device, choose_precision
from fpgm_core.runtime.progress import Progress, Work, run, within
from fpgm_core.runtime.shared import SharedStudy
from fpgm_core.runtime.storage import Kept, ResultStore

RATES = tuple(tenth / 10 for tenth in range(1, 10))
SWEEP_IMAGES = 2000  # of the choose half: what pages and commands sweep on

_POLL = 1.0  # seconds
_STORE = ResultStore("sensitivity")


@dataclass(frozen=True)
class Point:
    """One unit at one rate, all others whole: `macs` left, and right answers among `num_images`, as in Measurement.

    What was measured before top-5 was counted has none.
    """

    unit: str
    rate: float
    macs: int
    num_correct: int
    num_dense_correct: int
    num_both_correct: int
    num_images: int
    num_correct_top5: int | None = None

    @property
    def change(self) -> Interval:
        """Accuracy minus the dense network's on the same images, with the paired 95% interval."""
        return change_of_counts(self.num_correct, self.num_dense_correct, self.num_both_correct, self.num_images)


def check_loss(loss: float) -> float:
    """`loss` itself, accuracy that may go, a fraction in 0..1. Raises FpgmError for anything else."""
    if not 0 <= loss <= 1:
        raise FpgmError(f"a loss of {loss} is no fraction of the images; give 0 to 1, 0.01 for one point")
    return loss


@dataclass(frozen=True)
class Sweep:
    """The points measured so far, units in forward order, each unit's rates ascending; `total` were asked for."""

    points: tuple[Point, ...]
    total: int

    @property
    def units(self) -> dict[str, tuple[Point, ...]]:
        """The points of every unit that has any, by its name."""
        found: dict[str, list[Point]] = {}
        for point in self.points:
            found.setdefault(point.unit, []).append(point)
        return {unit: tuple(points) for unit, points in found.items()}

    def rates_within(self, loss: float) -> dict[str, float]:
        """Every unit's highest rate up to which it loses, alone, at most `loss`: an accuracy, a fraction in 0..1.

        How Li et al. (ICLR 2017, section 3.2) read sensitivity: what a unit bears alone says how far to prune it. 0.0
        where the lowest rate measured loses more. What counts is the measured change, not its interval's end, and
        units pruned together lose more than each alone: measure the plan. Raises FpgmError for another `loss`.
        """
        most = check_loss(loss) + 1e-9  # 20 of 2,000 images are one point, however it is rounded

        def borne(point: Point) -> bool:
            return point.num_dense_correct - point.num_correct <= most * point.num_images

        rates = {unit: [point.rate for point in takewhile(borne, points)] for unit, points in self.units.items()}
        return {unit: max(within, default=0.0) for unit, within in rates.items()}


def sweep_work(
    network: Network,
    images: ImageSet,
    *,
    plan: Plan | None = None,
    method: str = "recalibrated",
    training: ImageSet | None = None,
    rates: Sequence[float] = RATES,
    config: EvaluationConfig = EvaluationConfig(),
    use_cache: bool = True,
    together: str | None = None,
) -> Work[Sweep]:
    """Measure every unit at every rate on `images`; each Progress has the Sweep so far. Stop iterating to cancel.

    `plan` says criterion, coupling and options (`inner` with fpgm by default); its rates and locks do not count. Each
    network is recovered by `method` from `training` images. What an earlier sweep of the same kind measured, finished
    or not, is read from `FPGM_HOME` and not measured again; unless `use_cache`, nothing is read or written.

    With `together`, the URL of a data base, or "" for one in `FPGM_HOME`, all processes that sweep the same share the
    points; whoever falls out, his point is measured by another. See `SharedStudy`.

    Raises FpgmError as `measure_work` does, or where no rate is given.
    """
    like = replace(plan or network.plan(coupling="inner"), rates={}, locked_in={}, locked_out={})
    network.check(like)
    wanted = [
        (unit.name, rate) for unit in network.units(like.coupling) for rate in sorted(set(map(check_rate, rates)))
    ]
    if not wanted:
        raise FpgmError("nothing to sweep: name at least one rate, and a coupling that has units")
    record = _Record(network, like, images, training, method, config)
    measured = record.read() if use_cache else {}

    def measure(key: tuple[str, float]) -> Work[Point]:
        alone = network.prune(like.with_rates({key[0]: key[1]}))
        # Not for late layers: the next plan prunes another early one, and somebody's hand may need the room.
        work = measure_work(
            alone, images, method=method, training=training, config=config, preview=False, remember_late=False
        )
        return _point(*key, alone.cost.macs, (yield from _silent(work)))

    if together is not None:
        yield from _shared(wanted, measured, measure, SharedStudy(record.name, together or None))
        if use_cache:
            record.write(measured)
    for done, key in enumerate(wanted):
        yield Progress(done, len(wanted), f"{key[0]} at {key[1]:.0%}", partial=_sweep(measured, wanted))
        if key not in measured:
            measured[key] = yield from within(measure(key), done / len(wanted), (done + 1) / len(wanted))
            if use_cache:
                record.write(measured)
    return _sweep(measured, wanted)


def _shared(
    wanted: Sequence[tuple[str, float]],
    measured: dict[tuple[str, float], Point],
    measure: Callable[[tuple[str, float]], Work[Point]],
    study: SharedStudy,
) -> Work[None]:
    """Fill in `measured`, together with everybody else who measures the same sweep."""
    by_name = {json.dumps(key): key for key in wanted if key not in measured}
    study.offer(by_name)
    while True:
        for name, values in study.results().items():
            if name in by_name:
                measured[by_name[name]] = Point(**values)
        left = [name for name, key in by_name.items() if key not in measured]
        yield Progress(len(wanted) - len(left), len(wanted), "measuring together", partial=_sweep(measured, wanted))
        if not left:
            return
        if not study.take(lambda name: asdict(run(measure(tuple(json.loads(name)))))):
            time.sleep(_POLL)  # others are at the last ones


def _silent(work: Work[Measurement]) -> Work[Measurement]:
    """Work whose running measurements nobody asked for."""
    with closing(work):
        while True:
            try:
                progress = next(work)
            except StopIteration as end:
                measurement: Measurement = end.value
                return measurement
            yield replace(progress, partial=None)


def _sweep(measured: Mapping[tuple[str, float], Point], wanted: Sequence[tuple[str, float]]) -> Sweep:
    return Sweep(tuple(measured[key] for key in wanted if key in measured), len(wanted))


def _point(unit: str, rate: float, macs: int, measurement: Measurement) -> Point:
    return Point(
        unit=unit,
        rate=rate,
        macs=macs,
        num_correct=measurement.num_correct,
        num_dense_correct=measurement.num_dense_correct,
        num_both_correct=measurement.num_both_correct,
        num_images=measurement.num_images,
        num_correct_top5=measurement.num_correct_top5,
    )


class _Record:
    """The file that keeps a sweep's points."""

    def __init__(
        self,
        network: Network,
        like: Plan,
        images: ImageSet,
        training: ImageSet | None,
        method: str,
        config: EvaluationConfig,
    ) -> None:
        device = choose_device(config.device)
        self._identity: dict[str, Any] = {
            "network": network.identity,
            "plan": like.to_dict(),
            "images": images.digest,
            "training": training.digest if training is not None else None,
            "method": method,
            "precision": str(choose_precision(config.precision, device)),
        }

    @property
    def name(self) -> str:
        """What those who sweep together have in common."""
        return f"sweep {hashlib.sha256(json.dumps(self._identity, sort_keys=True).encode()).hexdigest()[:24]}"

    def read(self) -> dict[tuple[str, float], Point]:
        """What it holds; nothing where it is absent or damaged."""
        return _STORE.read(self._identity, _points_in) or {}

    def write(self, measured: Mapping[tuple[str, float], Point]) -> None:
        """Write all points. Raises FpgmError where that is impossible."""
        _STORE.write(self._identity, Kept([asdict(point) for point in measured.values()]))


def _points_in(kept: Kept) -> dict[tuple[str, float], Point]:
    points = [Point(**values) for values in kept.values]
    for point in points:
        right = point.num_correct, point.num_dense_correct
        if not (0 < point.rate <= 1 and point.macs >= 0):
            raise ValueError(f"{point.unit} cannot have been pruned so")
        if not 0 <= point.num_both_correct <= min(right) <= max(right) <= point.num_images:
            raise ValueError(f"{point.unit} cannot have been measured so")
        if point.num_correct_top5 is not None and not point.num_correct <= point.num_correct_top5 <= point.num_images:
            raise ValueError(f"{point.unit} cannot have been measured so")
    return {(point.unit, point.rate): point for point in points}
