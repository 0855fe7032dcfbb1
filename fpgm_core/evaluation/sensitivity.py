"""Sensitivity: the accuracy a network loses when one unit alone is pruned, at one rate after another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from fpgm_core.criteria import check_rate
from fpgm_core.errors import FpgmError
from fpgm_core.evaluation.accuracy import EvaluationConfig, Figure, measure
from fpgm_core.evaluation.intervals import Interval, paired_change
from fpgm_core.pruning import Network, Plan
from fpgm_core.runtime.device import choose_device, choose_precision
from fpgm_core.runtime.storage import home, write_atomic

RATES = tuple(tenth / 10 for tenth in range(1, 10))
SWEPT = EvaluationConfig(images=2000)


@dataclass(frozen=True)
class Point:
    """One unit at one rate, all others whole: `macs` left, right answers among the same `images` images.

    `dense_correct` and `both` are as in Figure.
    """

    unit: str
    rate: float
    macs: int
    correct: int
    dense_correct: int
    both: int
    images: int

    @property
    def change(self) -> Interval:
        """Accuracy minus the dense network's on the same images, with the paired 95% interval."""
        only_new, only_old = self.correct - self.both, self.dense_correct - self.both
        return paired_change(self.both, only_new, only_old, self.images - self.both - only_new - only_old)


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
            return point.dense_correct - point.correct <= most * point.images

        rates = {unit: [point.rate for point in takewhile(borne, points)] for unit, points in self.units.items()}
        return {unit: max(within, default=0.0) for unit, within in rates.items()}


def sweep_steps(
    network: Network,
    plan: Plan | None = None,
    settings: EvaluationConfig = SWEPT,
    rates: Sequence[float] = RATES,
    kept: bool = True,
) -> Iterator[Sweep]:
    """Measure every unit at every rate; yields what there is, often, and last all of it. Stop iterating to cancel.

    `plan` says criterion, coupling and options (`inner` with fpgm by default); its rates and locks do not count.
    What an earlier sweep of the same kind measured, finished or not, is read from `FPGM_HOME` and not measured again;
    unless `kept`, nothing is read or written.

    Raises FpgmError as `measure` does, or where no rate is given.
    """
    like = replace(plan or network.plan(coupling="inner"), rates={}, locked_in={}, locked_out={})
    network.check(like)
    wanted = [
        (unit.name, rate) for unit in network.units(like.coupling) for rate in sorted(set(map(check_rate, rates)))
    ]
    if not wanted:
        raise FpgmError("nothing to sweep: name at least one rate, and a coupling that has units")
    record = _Record(network, like, settings)
    measured = record.read() if kept else {}
    yield _sweep(measured, wanted)
    for unit, rate in wanted:
        if (unit, rate) in measured:
            continue
        alone = like.with_rates({unit: rate})
        exact: Figure | None = None
        # Not for late layers: the next plan prunes another early one, and somebody's hand may need the room.
        for figure in measure(network, alone, settings, first_figure=False, late=False):
            exact = figure if isinstance(figure, Figure) else exact
            yield _sweep(measured, wanted)
        assert exact is not None
        measured[unit, rate] = _point(unit, rate, network.cost(alone).macs, exact)
        if kept:
            record.write(measured)
        yield _sweep(measured, wanted)


def _sweep(measured: Mapping[tuple[str, float], Point], wanted: Sequence[tuple[str, float]]) -> Sweep:
    return Sweep(tuple(measured[key] for key in wanted if key in measured), len(wanted))


def _point(unit: str, rate: float, macs: int, figure: Figure) -> Point:
    return Point(unit, rate, macs, figure.correct, figure.dense_correct, figure.both, figure.images)


def _rung(rung: str) -> dict[str, Any]:
    """How a record names a rung: the two oldest as they were named before there were others."""
    return {"recalibrated": rung == "recalibrated"} if rung in ("as_is", "recalibrated") else {"rung": rung}


class _Record:
    """The file that keeps a sweep's points."""

    def __init__(self, network: Network, like: Plan, settings: EvaluationConfig) -> None:
        device = choose_device(settings.device)
        self._identity: dict[str, Any] = {
            "plan": like.to_dict(),
            "split": settings.split,
            "images": settings.images,
            **_rung(settings.rung),
            "precision": str(choose_precision(settings.precision, device)),
            "data": str(settings.data_root or "bundled"),
        }
        name = hashlib.sha256(json.dumps(self._identity, sort_keys=True).encode()).hexdigest()
        self.path: Path = home() / "sensitivity" / f"{name[:32]}.json"

    def read(self) -> dict[tuple[str, float], Point]:
        """What it holds; nothing where it is absent, damaged, or of something else."""
        try:
            held = json.loads(self.path.read_bytes())
            if held["identity"] != self._identity:
                return {}
            return {(point.unit, point.rate): point for point in (Point(**entry) for entry in held["points"])}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def write(self, measured: Mapping[tuple[str, float], Point]) -> None:
        """Write all points. Raises FpgmError where that is impossible."""
        held = {"identity": self._identity, "points": [asdict(point) for point in measured.values()]}
        write_atomic(self.path, json.dumps(held).encode())
