"""How well times are predicted: plans that the prediction has not seen, predicted and then timed whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fpgm_core.evaluation import Interval
from fpgm_core.pruning import Plan
from fpgm_core.runtime.progress import Work
from fpgm_core.timing.engine import TimingConfig
from fpgm_core.timing.prediction import Predictor
from fpgm_core.timing.probing import WHOLE, mixed_rates, timed_work
from fpgm_core.timing.runtimes import Target

_SEED = 1  # another than that of the networks that predictions are fitted to


@dataclass(frozen=True)
class Predicted:
    """One plan: the MACs that it cuts, and its time beside the dense network's, predicted and measured.

    Both are shares of the dense network's milliseconds, so that what disturbed the machine is in neither.
    """

    plan: Plan
    macs_cut: float
    predicted: Interval
    measured: Interval

    @property
    def error(self) -> float:
        """By which share of what was measured the prediction is off."""
        return self.predicted.value / self.measured.value - 1


@dataclass(frozen=True)
class TimingStudy:
    """The plans of a study, and how far off predictions were."""

    plans: tuple[Predicted, ...]
    busy: bool

    @property
    def median_error(self) -> float:
        """The median of the errors' sizes."""
        return float(np.median([abs(one.error) for one in self.plans]))

    @property
    def covered(self) -> float:
        """The share of plans whose measured time lies in the predicted interval."""
        return float(np.mean([one.predicted.low <= one.measured.value <= one.predicted.high for one in self.plans]))


def timing_study_work(
    predictor: Predictor, like: Plan, target: Target, *, count: int = 20, config: TimingConfig = WHOLE
) -> Work[TimingStudy]:
    """Predict and time `count` plans of mixed rates, at levels from 0.2 to 0.9, under a plan's coupling."""
    network, random = predictor.network, np.random.RandomState(_SEED)
    names = [unit.name for unit in network.units(like.coupling)]
    rates = [{}, *(mixed_rates(names, level, random) for level in np.linspace(0.2, 0.9, count))]
    pruned = [network.prune(network.plan(one, criterion="l2_norm", coupling=like.coupling)) for one in rates]
    timed = yield from timed_work(pruned, target, config)
    found, dense = list[Predicted](), timed.ms[0, 0]
    for one, (value, low, high) in zip(pruned[1:], timed.ms[1:], strict=True):
        ms = predictor.ms(one)
        base = predictor.dense.value
        found.append(
            Predicted(
                one.plan,
                1 - one.cost.macs / network.dense_cost.macs,
                Interval(ms.value / base, ms.low / base, ms.high / base),
                Interval(value / dense, low / dense, high / dense),
            )
        )
    return TimingStudy(tuple(found), timed.busy)
