"""Refit cost: what a layer's readers still lose once they are refitted to do without a filter."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from fpgm_core.calibration import (
    CalibrationConfig,
    Moments,
    UnitLoss,
    calibrate_work,
    greedy_order,
    prunable_layers,
    readings,
)
from fpgm_core.criteria.criterion import Criterion, Scores
from fpgm_core.data import ImageSet
from fpgm_core.graph import TracedModule
from fpgm_core.runtime.progress import Progress, Work, within


def refit_cost_work(
    network: TracedModule,
    images: ImageSet,
    device: torch.device = torch.device("cpu"),
    *,
    config: CalibrationConfig = CalibrationConfig(),
    greedy: bool = False,
) -> Work[Scores]:
    """Refit costs of every layer that can be pruned, from the second moments of what its readers read of images.

    See `refit_costs_work`, and `calibrate_work` for `config`: its defaults are part of what a plan means.
    """
    moments = yield from within(calibrate_work(network, images, config=config, device=device), 0, 0.5)
    return (yield from within(refit_costs_work(network, moments, greedy=greedy), 0.5))


def refit_costs_work(
    network: TracedModule, moments: Moments, *, greedy: bool = False, layers: Sequence[str] | None = None
) -> Work[Scores]:
    """Refit cost of each of `layers` by itself (None: all that can be pruned), see `fpgm_core.calibration.refit_cost`.

    With `greedy` the score is the step at which a filter goes, 1 to N, when always the cheapest next one goes.
    Layers whose readers have no moments, or cannot be refitted, are left out.
    """
    layers = prunable_layers(network) if layers is None else layers
    scores = dict[str, np.ndarray]()
    for number, name in enumerate(layers, 1):
        readers = readings(network, [name])
        if readers and all(reader.layer in moments.layers for reader in readers):
            loss = UnitLoss.of(network, [name], moments=moments)
            scores[name] = _greedy_steps(loss) if greedy else loss.costs()
        yield Progress(number, len(layers), "refitting without each filter")
    return scores


def _greedy_steps(loss: UnitLoss) -> np.ndarray:
    steps = np.empty(loss.size)
    steps[greedy_order(loss)] = np.arange(1, loss.size + 1)
    return steps


REFIT_COST = Criterion(
    name="refit_cost",
    title="Refit cost",
    summary="Prunes the filters that the others can best stand in for, once those who read them are refitted.",
    assumes="each filter goes alone, and its consumers are refitted by least squares",
    source="Hassibi and Stork, Optimal Brain Surgeon, NIPS 1992, in blocks: tr(W_i [(G^-1)_ii]^-1 W_i^T)",
    score_images=refit_cost_work,
)

REFIT_COST_GREEDY = Criterion(
    name="refit_cost_greedy",
    title="Refit cost, greedy",
    summary="Refit cost, one filter after the other: the rest are scored anew as each one goes.",
    assumes="the cheapest next filter is part of the cheapest set",
    source="Optimal Brain Surgeon in blocks; moments updated by Schur complements",
    score_images=partial(refit_cost_work, greedy=True),
)
