"""The solver: how many filters every unit loses, so that a goal is met at the least predicted loss.

A unit's cost is a product with its neighbours' counts, so the whole is no knapsack; with all others held it is one. It
begins greedily, with steps of any length by exact costs, and exchanges between pairs of units. From there every unit's
exact savings are tabled, and the multiple-choice knapsack over them is solved as a mixed-integer linear programme
within a trust region; what comes of it is put right by exact costs, and kept where the loss fell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fpgm_core.allocation.costs import CostFunction
from fpgm_core.allocation.losses import Losses
from fpgm_core.errors import FpgmError

_REACHES = (0.3, 0.1)  # of a unit's choices: how far the programmes look, one after the other
_STEPS = 65
_SECONDS = 1.0  # for one programme: what is found by then is used
_STRIDES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True, eq=False)
class Problem:
    """Least predicted loss under cost limits: `costs` gives each of `limits` what counts against it."""

    losses: Losses
    costs: tuple[CostFunction, ...]
    limits: tuple[float, ...]

    def cost(self, chosen: np.ndarray) -> np.ndarray:
        """The costs, float64 (n, limits), of allocations int (n, units)."""
        counts = self.losses.choices.counts(chosen)
        return np.stack([cost(counts) for cost in self.costs], axis=1)

    def excess(self, chosen: np.ndarray) -> np.ndarray:
        """By how much allocations int (n, units) miss the goal, in shares of its limits: (n,), 0 where they meet it."""
        over = np.maximum(0.0, self.cost(chosen) - np.array(self.limits))
        share: np.ndarray = (over / np.array(self.limits)).sum(1)
        return share

    def meets(self, chosen: np.ndarray) -> np.ndarray:
        """Which allocations int (n, units) meet every limit, bool (n,)."""
        met: np.ndarray = self.excess(chosen) <= 1e-12
        return met

    @property
    def sizes(self) -> np.ndarray:
        """How many choices each unit has, int (units,)."""
        return np.array([len(loss) for loss in self.losses.by_unit])


def solve(problem: Problem) -> np.ndarray:
    """The allocation, int (units,), with the least predicted loss found that meets the goal.

    No unit of it can lose one filter less. Raises FpgmError where nothing that can be chosen meets the goal.
    """
    evenly = along(problem, np.linspace(0, 1, _STEPS)[:, None] * (problem.sizes - 1))
    starts = [_exchanged(problem, put_right(problem, start)) for start in (np.zeros_like(evenly), evenly)]
    best = min(starts, key=lambda start: float(problem.losses.of(start)))
    for reach in _REACHES:
        proposed = _exchanged(problem, put_right(problem, _programme(problem, best, reach)))
        if problem.losses.of(proposed) < problem.losses.of(best) - 1e-12:
            best = proposed
    return best


def along(problem: Problem, path: np.ndarray) -> np.ndarray:
    """The first allocation that meets the goal on a path of rising allocations, float (n, units), rounded.

    Raises FpgmError where none does.
    """
    steps = np.floor(path + 1e-9).astype(int)
    met = problem.meets(steps)
    if not met.any():
        least = problem.cost(steps[-1:])[0]
        dense = problem.cost(np.zeros((1, steps.shape[1]), dtype=int))[0]
        cut = ", ".join(f"{1 - left / whole:.1%}" for left, whole in zip(least, dense, strict=True))
        raise FpgmError(f"the goal cannot be met: all that may go, under these locks, cuts {cut}; ask for less")
    result: np.ndarray = steps[int(met.argmax())]
    return result


def put_right(problem: Problem, chosen: np.ndarray) -> np.ndarray:
    """An allocation changed until it meets the goal and no unit can lose one filter less: int (units,)."""
    while not problem.meets(chosen[None])[0]:
        chosen = _more(problem, chosen)
    while (fewer := _fewer(problem, chosen)) is not None:
        chosen = fewer
    return chosen


def _moves(problem: Problem, chosen: np.ndarray, strides: Sequence[int]) -> np.ndarray:
    """Every allocation that differs from one in a single unit by one of the strides, int (n, units)."""
    moved = []
    for stride in strides:
        for unit, size in enumerate(problem.sizes):
            if 0 <= chosen[unit] + stride < size:
                one = chosen.copy()
                one[unit] += stride
                moved.append(one)
    return np.array(moved, dtype=int).reshape(len(moved), len(chosen))


def _more(problem: Problem, chosen: np.ndarray) -> np.ndarray:
    """Prune further in one unit: where what it loses more, by what comes nearer to the goal, is least."""
    moves = _moves(problem, chosen, _STRIDES)
    nearer = problem.excess(chosen[None])[0] - problem.excess(moves)
    useful = nearer > 1e-15
    if not useful.any():
        raise FpgmError("the goal cannot be met from here: what is left to prune saves nothing; ask for less")
    price = np.where(useful, (problem.losses.of(moves) - problem.losses.of(chosen)) / np.maximum(nearer, 1e-15), np.inf)
    result: np.ndarray = moves[int(price.argmin())]
    return result


def _fewer(problem: Problem, chosen: np.ndarray) -> np.ndarray | None:
    """Prune less in one unit while the goal stays met: where most loss is saved; None where that is nowhere."""
    moves = _moves(problem, chosen, (-1,))
    moves = moves[problem.meets(moves)] if len(moves) else moves
    if not len(moves):
        return None
    result: np.ndarray = moves[int(problem.losses.of(moves).argmin())]
    return result


def _programme(problem: Problem, chosen: np.ndarray, reach: float) -> np.ndarray:
    """The multiple-choice knapsack with every unit's exact savings, all others held, within `reach` of each size."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array

    window = np.maximum(1, np.ceil(reach * problem.sizes)).astype(int)
    units = np.concatenate([np.full(min(size, at + w + 1) - max(0, at - w), place) for place, (size, at, w) in
                            enumerate(zip(problem.sizes, chosen, window, strict=True))])  # fmt: skip
    indices = np.concatenate([np.arange(max(0, at - w), min(size, at + w + 1)) for size, at, w in
                              zip(problem.sizes, chosen, window, strict=True)])  # fmt: skip
    moved = np.repeat(chosen[None], len(units), axis=0)
    moved[np.arange(len(units)), units] = indices
    added = problem.cost(moved) - problem.cost(chosen[None])
    loss = np.array([problem.losses.by_unit[unit][index] for unit, index in zip(units, indices, strict=True)])
    scale = np.array(problem.limits)
    room = (scale - problem.cost(chosen[None])[0]) / scale
    once = coo_array((np.ones(len(units)), (units, np.arange(len(units)))), shape=(len(chosen), len(units)))
    found = milp(
        loss / max(loss.max(), 1e-30),
        integrality=np.ones(len(units)),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(once.tocsr(), 1, 1), LinearConstraint((added / scale).T, -np.inf, room + 1e-9)],
        options={"time_limit": _SECONDS, "mip_rel_gap": 1e-4},
    )
    if found.x is None:
        return chosen
    result = chosen.copy()
    picked = found.x > 0.5
    result[units[picked]] = indices[picked]
    return result


def _exchanged(problem: Problem, chosen: np.ndarray) -> np.ndarray:
    """Units exchange filters, one that loses fewer for one that loses more, while the predicted loss falls."""
    strides = (1, 2, 4, 8)
    while True:
        down = _moves(problem, chosen, [-stride for stride in strides])
        up = _moves(problem, chosen, strides)
        if not len(down) or not len(up):
            return chosen
        now = problem.losses.of(chosen)
        gain = (now - problem.losses.of(down))[:, None] - (problem.losses.of(up) - now)[None]
        slack = np.array(problem.limits) - problem.cost(chosen[None])
        added, saved = problem.cost(down) - problem.cost(chosen[None]), problem.cost(chosen[None]) - problem.cost(up)
        fits = ((added[:, None] - saved[None]) <= slack[:, None] * 1.05 + 1e-9).all(2)  # nearly: exact costs decide
        worth = np.argwhere(fits & (gain > 1e-12))
        order = worth[np.argsort(-gain[tuple(worth.T)], kind="stable")][:256]
        both = down[order[:, 0]] + up[order[:, 1]] - chosen
        ok = (both >= 0).all(1) & (both < problem.sizes).all(1)
        both = both[ok]
        both = both[problem.meets(both)] if len(both) else both
        falls = problem.losses.of(both) < now - 1e-12 if len(both) else np.zeros(0, dtype=bool)
        if not falls.any():
            return chosen
        chosen = put_right(problem, both[falls][0])
