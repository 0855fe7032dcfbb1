"""The study behind the damage surface: does its prediction rank plans as repaired accuracy does?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fpgm_core.calibration import CalibrationConfig, calibrate
from fpgm_core.data import load_images
from fpgm_core.evaluation.accuracy import EvaluationConfig, evaluate
from fpgm_core.evaluation.intervals import Interval
from fpgm_core.evaluation.replaceability import rank_interval
from fpgm_core.pruning import Network, Plan
from fpgm_core.recovery import surface

PLANS = 40
SEED = 2019
_TENTHS = 10


@dataclass(frozen=True)
class Studied:
    """One plan: its rates, the predicted loss, and right answers of the repaired network among `images`."""

    rates: tuple[tuple[str, float], ...]
    predicted: float
    correct: int
    images: int
    rung: str


@dataclass(frozen=True)
class Study:
    """What was measured so far; `total` plans were asked for."""

    plans: tuple[Studied, ...]
    total: int

    @property
    def agreement(self) -> Interval | None:
        """Spearman's correlation of predicted loss with measured loss of accuracy; see `rank_interval`."""
        predicted = np.array([one.predicted for one in self.plans])
        return rank_interval(predicted, np.array([-one.correct / one.images for one in self.plans]))


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


def study_steps(
    network: Network,
    count: int = PLANS,
    seed: int = SEED,
    settings: EvaluationConfig = EvaluationConfig(rung="repaired"),
    config: CalibrationConfig = CalibrationConfig(),
) -> Iterator[Study]:
    """Predict and measure `count` mixed plans; yields what there is after each. Stop iterating to cancel."""
    predicted = surface(network, calibrate(network, load_images(network.dataset, "train"), config=config))
    found: list[Studied] = []
    for plan in mixed_plans(network, count, seed):
        figure = evaluate(network, plan, settings)
        found.append(
            Studied(tuple(plan.rates.items()), predicted.predicted(plan), figure.correct, figure.images, figure.rung)
        )
        yield Study(tuple(found), count)
