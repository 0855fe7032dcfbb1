"""Allocators: ways to say how many filters every unit loses so that a goal is met, in a registry.

Which filters of a unit those are, the plan's criterion says: selection and allocation are separate choices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fpgm_core.allocation.choices import Choices, UnitChoices
from fpgm_core.allocation.goals import COSTS, Goal
from fpgm_core.allocation.losses import Losses
from fpgm_core.allocation.solver import Problem, along, put_right, solve
from fpgm_core.criteria import get_criterion
from fpgm_core.errors import FpgmError
from fpgm_core.pruning import PrunedNetwork, stage_of, stages
from fpgm_core.runtime.registry import Registry

_STEPS = 257  # on a path from nothing to everything
_TRIES = 8  # of a model of cost that is not exact


@dataclass(frozen=True)
class Allocator:
    """One way to allocate. `allocate` is given the problem and a seed, and returns an allocation that meets it.

    `needs_losses` says whether it reads predicted losses; where not, those it is given are zero.
    """

    name: str
    title: str
    summary: str
    allocate: Callable[[Problem, int], np.ndarray]
    needs_losses: bool = False


def allocated(
    choices: Choices, goal: Goal, allocator: str, *, losses: Losses | None = None, seed: int = 0
) -> PrunedNetwork:
    """The network pruned as an allocator says: it meets the goal by exact costs, and no unit can keep a filter more.

    Where the model of cost is not exact (see `CountedCost`) its limits are moved until the exact cost is right. Raises
    FpgmError for an unknown allocator, one that needs losses and gets none, and a goal that cannot be met.
    """
    record = get_allocator(allocator)
    if record.needs_losses and losses is None:
        raise FpgmError(f"{allocator} reads predicted losses; give some, see losses_work")
    known = losses or Losses("none", choices, tuple(np.zeros(len(one.counts)) for one in choices.units))
    wanted, costs = goal.limits(choices), tuple(COSTS[name].of(choices) for name in goal.cuts)
    limits = np.array(wanted)
    for _ in range(_TRIES):
        chosen = record.allocate(Problem(known, costs, tuple(limits)), seed)
        pruned = choices.network.prune(choices.plan(chosen))
        exact = np.array([COSTS[name].exact(pruned) for name in goal.cuts])
        if (exact <= np.array(wanted) * (1 + 1e-9)).all():
            return pruned
        limits = limits - np.maximum(0.0, exact - np.array(wanted)) - 1e-9 * np.array(wanted)
    raise FpgmError("the goal is not met by exact costs, though it is by the model; ask for a little more")


def _uniform(problem: Problem, seed: int) -> np.ndarray:
    """Every unit at one rate, as near as whole filters allow."""
    return _along_rates(problem, [np.linspace(0, 1, _STEPS)] * len(problem.sizes))


def _by_stage(problem: Problem, seed: int) -> np.ndarray:
    """Rates that rise from stage to stage, the last three times the first."""
    names = [one.unit.name for one in problem.losses.choices.units]
    order = stages([one.unit for one in problem.losses.choices.units])
    last = max(1, len(order) - 1)
    share = [1 + 2 * order.index(stage_of(name)) / last for name in names]
    return _along_rates(problem, [np.linspace(0, 3, _STEPS) * each / 3 for each in share])


def _within_loss(problem: Problem, seed: int) -> np.ndarray:
    """Every unit's highest count whose predicted loss, alone, is within one threshold for all (Li et al., 2017)."""
    losses = problem.losses.by_unit
    levels = np.unique(np.concatenate([[0.0], *losses]))
    path = np.array([[np.searchsorted(loss, level, side="right") - 1 for loss in losses] for level in levels])
    return put_right(problem, along(problem, path.astype(float)))


def _random(problem: Problem, seed: int) -> np.ndarray:
    """Rates in proportion to numbers drawn evenly from 0 to 1."""
    drawn = np.random.RandomState(seed).uniform(0.05, 1, len(problem.sizes))
    return _along_rates(problem, [np.minimum(1, np.linspace(0, 20, 8 * _STEPS) * each) for each in drawn])


def _along_rates(problem: Problem, rates: list[np.ndarray]) -> np.ndarray:
    """The first allocation on a path of rates, float (steps,) by unit, that meets the goal; then put right."""
    columns = [
        [int(np.abs(one.counts - rate * one.unit.size).argmin()) for rate in path]
        for one, path in zip(problem.losses.choices.units, rates, strict=True)
    ]
    return put_right(problem, along(problem, np.array(columns, dtype=float).T))


def _global(problem: Problem, seed: int) -> np.ndarray:
    """One threshold on scores, each divided by its unit's mean."""
    return _ranked(problem, lambda one: "")


def _isomorphic(problem: Problem, seed: int) -> np.ndarray:
    """One threshold on normalised scores among units of one shape (Fang et al., Isomorphic Pruning, ECCV 2024)."""
    shapes = {
        one.unit.name: f"{one.unit.size} {len(one.unit.members)} {_kernels(problem, one)}"
        for one in problem.losses.choices.units
    }
    return _ranked(problem, lambda one: shapes[one.unit.name])


def _kernels(problem: Problem, one: UnitChoices) -> tuple[tuple[int, ...], ...]:
    """The shapes of the filters of a unit's members."""
    module = problem.losses.choices.network.module
    return tuple(tuple(module.get_submodule(name).get_parameter("weight").shape[1:]) for name in one.unit.members)


def _ranked(problem: Problem, group: Callable[[UnitChoices], str]) -> np.ndarray:
    """One quantile of normalised scores for all: within each group every score below it goes."""
    choices = problem.losses.choices
    if len(get_criterion(choices.like.criterion).shares(choices.like.options)) > 1:
        raise FpgmError(
            f"{choices.like.criterion} selects in stages, and has no one score a filter to rank by; choose another"
        )
    scores = {
        one.unit.name: choices.network.scores(one.unit, choices.like.criterion, choices.like.options)
        for one in choices.units
    }
    normal = {name: np.sort(each / (np.abs(each).mean() or 1.0)) for name, each in scores.items()}
    pools = dict[str, list[np.ndarray]]()
    for one in choices.units:
        pools.setdefault(group(one), []).append(normal[one.unit.name])
    sorted_pools = {name: np.sort(np.concatenate(parts)) for name, parts in pools.items()}
    path = []
    for quantile in np.linspace(0, 1, 4 * _STEPS):
        row = []
        for one in choices.units:
            pool = sorted_pools[group(one)]
            below = pool[: round(quantile * len(pool))]
            wanted = np.searchsorted(normal[one.unit.name], below[-1], side="right") if len(below) else 0
            row.append(max(0, int(np.searchsorted(one.counts, wanted, side="right")) - 1))
        path.append(row)
    return put_right(problem, along(problem, np.array(path, dtype=float)))


_RECORDS = (
    Allocator("solved", "Solved", "The least predicted loss for the goal.", lambda problem, seed: solve(problem), True),
    Allocator("uniform", "Uniform", "One rate for every unit.", _uniform),
    Allocator("by_stage", "By stage", "Rates that rise by stage, the last three times the first.", _by_stage),
    Allocator("within_loss", "Within a loss", "Every unit up to the same predicted loss, alone.", _within_loss, True),
    Allocator("global", "Global ranking", "One threshold on scores, each divided by its unit's mean.", _global),
    Allocator("isomorphic", "Isomorphic groups", "One threshold on scores among units of one shape.", _isomorphic),
    Allocator("random", "Random", "Rates drawn evenly: the control.", _random),
)  # fmt: skip
ALLOCATORS = Registry[Allocator]("allocator", _RECORDS)


def get_allocator(name: str) -> Allocator:
    """The allocator called `name`. Raises FpgmError, listing the names, where there is none."""
    return ALLOCATORS.find(name)


def register_allocator(allocator: Allocator) -> None:
    """Add an allocator of your own, or replace one that was added. Raises FpgmError for the name of a library's own."""
    ALLOCATORS.add(allocator)


def unregister_allocator(name: str) -> None:
    """Take out an allocator that `register_allocator` added. Raises FpgmError for any other name."""
    ALLOCATORS.remove(name)
