"""How a unit's filters go as its rate rises: what a page needs to colour them without asking at every step."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fpgm_core.criteria import Criterion, SelectionOptions, get_criterion
from fpgm_core.criteria.selection import check_locks
from fpgm_core.errors import FpgmError
from fpgm_core.graph import Unit
from fpgm_core.pruning.network import Network
from fpgm_core.pruning.plan import Plan
from fpgm_core.runtime.progress import Progress, Work, run

PERCENTS = range(101)


@dataclass(frozen=True)
class RemovalOrder:
    """What a unit loses at every whole percent that its locks leave room for.

    `flips` has for each of the N filters the percents, ascending, at which its state changes; it is kept before the
    first. One number a filter where the sets are nested; more where a later stage chooses others (fpgm_mix).
    """

    flips: tuple[tuple[int, ...], ...]

    def keep_mask(self, percent: int) -> np.ndarray:
        """Which filters are kept at a whole percent that locks leave room for, bool (N,)."""
        return np.array([sum(flip <= percent for flip in flips) % 2 == 0 for flips in self.flips])


def removal_order(network: Network, plan: Plan, unit: Unit) -> RemovalOrder:
    """`removal_order_work`, run to its end."""
    return run(removal_order_work(network, plan, unit))


def removal_order_work(network: Network, plan: Plan, unit: Unit) -> Work[RemovalOrder]:
    """The order of a unit under a plan's criterion, options and locks, its rate aside: `keep_mask` at every percent."""
    percents, before = allowed_percents(plan, unit), np.ones(unit.size, dtype=bool)
    flips: list[list[int]] = [[] for _ in range(unit.size)]
    for done, percent in enumerate(percents):
        yield Progress(done, len(percents), "selecting filters at every percent")
        mask = network.keep_mask(plan.with_rates({unit.name: percent / 100}), unit)
        for index in np.flatnonzero(mask != before):
            flips[index].append(percent)
        before = mask
    return RemovalOrder(tuple(map(tuple, flips)))


def pruned_counts(plan: Plan, unit: Unit) -> tuple[int, ...]:
    """How many filters of a unit go at every whole percent, 0 to 100, under a plan's criterion and options."""
    return _counts(get_criterion(plan.criterion), plan.options, unit.size, unit.blocks)


@lru_cache(maxsize=1024)  # every drag of every session reads those of all its units
def _counts(criterion: Criterion, options: SelectionOptions, size: int, blocks: int) -> tuple[int, ...]:
    return tuple(criterion.count(size, percent / 100, options=options, blocks=blocks) for percent in PERCENTS)


def allowed_percents(plan: Plan, unit: Unit) -> tuple[int, ...]:
    """The whole percents at which a plan's locks of a unit leave its rate room, ascending."""
    locked_in, locked_out = (unit.with_copies(locks.get(unit.name, ())) for locks in (plan.locked_in, plan.locked_out))
    allowed = []
    for percent, count in zip(PERCENTS, pruned_counts(plan, unit), strict=True):
        with suppress(FpgmError):
            check_locks(
                unit.size, count // unit.blocks, locked_in=locked_in, locked_out=locked_out, where=unit.name,
                blocks=unit.blocks,
            )  # fmt: skip
            allowed.append(percent)
    return tuple(allowed)
