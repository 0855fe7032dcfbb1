"""Prices in context: what a unit's filters are worth where all the others are pruned too, measured; then solved anew.

The losses are those of every unit alone. Under a plan they weigh otherwise: what one unit lost another can no longer
make good. So some of each unit's filters are given back, one unit at a time, in the repaired network, and its losses
are scaled by what that was worth against what was predicted. What is measured is the divergence of the answers from the
dense network's on training images that nothing is fitted to: no labels are read, and no test images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from fpgm_core.allocation.choices import Choices
from fpgm_core.allocation.goals import COSTS, Goal
from fpgm_core.allocation.losses import Losses, answers_kl
from fpgm_core.allocation.solver import Problem, solve
from fpgm_core.allocation.suggestion import Prepared, SuggestConfig, Suggestion, suggestion_as, suggestion_of
from fpgm_core.calibration import CalibrationConfig
from fpgm_core.data import ImageSet
from fpgm_core.errors import FpgmError
from fpgm_core.graph import overlay
from fpgm_core.pruning import PrunedNetwork, RecoveryStep
from fpgm_core.recovery import refit_work
from fpgm_core.runtime.device import choose_device, to_device
from fpgm_core.runtime.locks import FORWARD_LOCK
from fpgm_core.runtime.progress import Progress, Work, behind

FIT = CalibrationConfig(num_images=500, positions=24)  # a quick repair's
PROBED = 1000  # images, the last
_GIVEN_BACK = 0.4  # of what a unit loses
_REACHES = (0.2, 0.1, 0.05)  # of a unit's choices: how far one round may go, as long as it makes things worse
_FACTORS = (0.2, 4.0)  # between which losses are scaled
_BATCH = 250


@dataclass(frozen=True, eq=False)
class Refined:
    """What came of it: a suggestion with the losses in context, the one it began with, and their divergences in nats.

    `num_measured` networks were repaired and asked.
    """

    best: Suggestion
    start: Suggestion
    divergence: float
    start_divergence: float
    num_measured: int


def refined_work(
    prepared: Prepared, goal: Goal, training: ImageSet, *, rounds: int = 1, config: SuggestConfig = SuggestConfig()
) -> Work[Refined]:
    """A plan solved with prices measured in context, round after round while the divergence falls.

    Each Progress has the Refined so far. Raises FpgmError without predicted losses, and for under two images.
    """
    if prepared.losses is None:
        raise FpgmError("prices in context scale predicted losses; prepare with an allocator that reads some")
    if len(training) < 2:
        raise FpgmError(f"repair needs images to fit to and others to ask, and {training.name} has {len(training)}")
    losses, judge = prepared.losses, _Judge(prepared.choices, training, config)
    start = suggestion_of(prepared, goal, config)
    chosen = _chosen(prepared.choices, start.pruned)
    now = first = yield from judge.divergence(chosen, Progress(0.0, what="repairing the first plan"))
    found = Refined(start, start, first, first, judge.count)
    for number in range(rounds):
        losses = yield from _in_context(losses, chosen, now, judge, number / rounds, found)
        for reach in _REACHES:
            moved = _solved(losses, goal, chosen, reach)
            then = yield from judge.divergence(moved, Progress((number + 1) / rounds, what="repairing a new plan"))
            if then < now:
                break
        else:
            return replace(found, num_measured=judge.count)
        chosen, now = moved, then
        pruned = prepared.choices.network.prune(prepared.choices.plan(chosen))
        best = suggestion_as(replace(prepared, losses=losses), goal, config, pruned)
        found = replace(found, best=best, divergence=now, num_measured=judge.count)
    return found


def _chosen(choices: Choices, pruned: PrunedNetwork) -> np.ndarray:
    return choices.nearest({name: int((~mask).sum()) for name, mask in pruned.keep_masks.items()})


def _in_context(
    losses: Losses, chosen: np.ndarray, now: float, judge: _Judge, share: float, found: Refined
) -> Work[Losses]:
    """The losses, each scaled by what filters given back are worth under the plan, against the median unit."""
    worth = np.full(len(chosen), np.nan)
    places = np.flatnonzero(chosen > 0)
    for place in places:
        name = losses.choices.units[place].unit.name
        moved = chosen.copy()
        moved[place] -= max(1, round(_GIVEN_BACK * chosen[place]))
        then = yield from judge.divergence(moved, Progress(share, what=f"giving back some of {name}", partial=found))
        row = losses.by_unit[place]
        worth[place] = (now - then) / max(row[chosen[place]] - row[moved[place]], 1e-12)
    middle = float(np.median(worth[places])) if len(places) else 0.0
    if middle <= 0:
        return losses
    factors = np.where(np.isnan(worth), 1.0, np.clip(worth / middle, *_FACTORS))
    rows = tuple(row * factor for row, factor in zip(losses.by_unit, factors, strict=True))
    return Losses(losses.name, losses.choices, rows)


def _solved(losses: Losses, goal: Goal, chosen: np.ndarray, reach: float) -> np.ndarray:
    """The allocation of least loss that meets the goal, no unit further from `chosen` than `reach` of its choices.

    Units that lose nothing stay whole: nothing was measured of them.
    """
    choices = losses.choices
    sizes = np.array([len(one.counts) for one in choices.units])
    span = np.where(chosen > 0, np.maximum(1, np.round(reach * sizes)).astype(int), 0)
    low, high = np.maximum(0, chosen - span), np.minimum(sizes - 1, chosen + span)
    held = choices.between(low, high)
    rows = tuple(row[a : b + 1] - row[a] for row, a, b in zip(losses.by_unit, low, high, strict=True))
    costs = tuple(COSTS[name].of(choices) for name in goal.cuts)
    found = low + solve(Problem(Losses(losses.name, held, rows), costs, goal.limits(choices)))
    return found if goal.met(choices.network.prune(choices.plan(found))) else chosen


class _Judge:
    """Repairs plans quickly, and asks how far their answers are from the dense network's."""

    def __init__(self, choices: Choices, training: ImageSet, config: SuggestConfig) -> None:
        self._choices, self._device = choices, choose_device(config.evaluation.device)
        probed = min(PROBED, max(1, len(training) // 5))
        self._probe = training.last(probed).to(self._device)
        self._fit = training.first(min(FIT.num_images, len(training) - probed)).to(self._device)
        self._dense = self._answers(overlay(choices.network.module, {}))
        self.count = 0

    def divergence(self, chosen: np.ndarray, progress: Progress) -> Work[float]:
        """The mean Kullback-Leibler divergence, in nats, of a repaired plan's answers from the dense network's."""
        pruned = self._choices.network.prune(self._choices.plan(chosen))
        tensors = yield from behind(refit_work(pruned, self._fit, config=FIT), progress)
        self.count += 1
        repaired = pruned.with_tensors(tensors, RecoveryStep("repaired"))
        return answers_kl(self._answers(repaired.compact(aligned=True)), self._dense)

    def _answers(self, module: nn.Module) -> Tensor:
        placed = to_device(module, self._device)
        begins = range(0, len(self._probe), _BATCH)
        with FORWARD_LOCK, torch.inference_mode():
            pieces = [placed(self._probe.normalised(at, min(at + _BATCH, len(self._probe)))) for at in begins]
        return torch.cat(pieces).float().cpu()
