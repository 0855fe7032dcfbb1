"""The study behind the damage surface: does its prediction rank plans as repaired accuracy does?

Its plans differ in MACs, and over such plans the MACs cut alone ranks as well. At equal MACs predicted damage ranks at
Spearman 0.56 [0.22, 0.82] (26 plans of ResNet-20, code independent of this project): see CHANGELOG.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fpgm_core.calibration import calibrate_work
from fpgm_core.data import ImageSet
from fpgm_core.evaluation.accuracy import EvaluationConfig, measure_work
from fpgm_core.evaluation.intervals import Interval
from fpgm_core.evaluation.rank_correlation import rank_interval
from fpgm_core.pruning import Network, Plan
from fpgm_core.recovery import damage
from fpgm_core.runtime.progress import Progress, Work, run, within

PLANS = 40
SEED = 2019
_TENTHS = 10


@dataclass(frozen=True)
class StudiedPlan:
    """One plan: its rates, the predicted loss, and right answers of the repaired network among `num_images`."""

    rates: tuple[tuple[str, float], ...]
    predicted: float
    num_correct: int
    num_images: int
    method: str


@dataclass(frozen=True)
class Study:
    """What was measured so far; `total` plans were asked for."""

    plans: tuple[StudiedPlan, ...]
    total: int

    @property
    def agreement(self) -> Interval | None:
        """Spearman's correlation of predicted loss with measured loss of accuracy; see `rank_interval`."""
        predicted = np.array([plan.predicted for plan in self.plans])
        return rank_interval(predicted, np.array([-plan.num_correct / plan.num_images for plan in self.plans]))


def mixed_plans(network: Network, count: int = PLANS, seed: int = SEED, coupling: str = "inner") -> list[Plan]:
    """Plans at mixed rates: for each a level from 10% to 70%, and every unit within 30 points of it, in tenths."""
    rng, plans = np.random.RandomState(seed), []
    for _ in range(count):
        level = rng.uniform(0.1, 0.7)
        rates = {
            unit.name: round(float(np.clip(round((level + rng.uniform(-0.3, 0.3)) * _TENTHS), 0, 9)) / _TENTHS, 1)
            for unit in network.units(coupling)
        }
        plans.append(network.plan(rates, coupling=coupling))
    return plans


def study_work(
    network: Network,
    images: ImageSet,
    training: ImageSet,
    *,
    num_plans: int = PLANS,
    seed: int = SEED,
    method: str = "repaired",
    config: EvaluationConfig = EvaluationConfig(),
) -> Work[Study]:
    """Predict and measure mixed plans on `images`; each Progress has the Study so far. Stop iterating to cancel."""
    moments = yield from within(calibrate_work(network, training), 0.0, 0.05)
    predicted = damage(network, moments)
    studied: list[StudiedPlan] = []
    for done, plan in enumerate(mixed_plans(network, num_plans, seed)):
        yield Progress(0.05 + 0.95 * done / num_plans, what="measuring", partial=Study(tuple(studied), num_plans))
        work = measure_work(network.prune(plan), images, method=method, training=training, config=config, preview=False)
        measurement = run(work)
        studied.append(
            StudiedPlan(
                rates=tuple(plan.rates.items()),
                predicted=predicted.predicted(plan),
                num_correct=measurement.num_correct,
                num_images=measurement.num_images,
                method=measurement.method,
            )
        )
    return Study(tuple(studied), num_plans)
