"""How a unit's filters go as its rate rises: what a page needs to colour them without asking at every step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fpgm_core.criteria import get_criterion
from fpgm_core.errors import FpgmError
from fpgm_core.graph import Unit
from fpgm_core.pruning.network import Network
from fpgm_core.pruning.plan import Plan
from fpgm_core.runtime.progress import Progress, Work, run

PERCENTS = range(101)


@dataclass(frozen=True)
class RemovalOrder:
    """What a unit loses at every whole percent that its locks leave room for, `low` to `high`.

    `flips` has for each of the N filters the percents, ascending, at which its state changes; it is kept before the
    first. One number a filter where the sets are nested; more where a later stage chooses others (fpgm_mix).
    """

    low: int
    high: int
    flips: tuple[tuple[int, ...], ...]

    def keep_mask(self, percent: int) -> np.ndarray:
        """Which filters are kept at a whole percent, bool (N,)."""
        return np.array([sum(flip <= percent for flip in flips) % 2 == 0 for flips in self.flips])


def removal_order(network: Network, plan: Plan, unit: Unit) -> RemovalOrder:
    """`removal_order_work`, run to its end."""
    return run(removal_order_work(network, plan, unit))


def removal_order_work(network: Network, plan: Plan, unit: Unit) -> Work[RemovalOrder]:
    """The order of a unit under a plan's criterion, options and locks, its rate aside: `keep_mask` at every percent.

    Raises FpgmError where no rate is possible.
    """
    masks: dict[int, np.ndarray] = {}
    refusal: FpgmError | None = None
    for percent in PERCENTS:
        yield Progress(percent, len(PERCENTS), "selecting filters at every percent")
        try:
            masks[percent] = network.keep_mask(plan.with_rates({unit.name: percent / 100}), unit)
        except FpgmError as error:  # locks that leave this rate no room
            refusal = error
    if not masks:
        raise refusal or FpgmError(f"{unit.name} cannot be pruned at any rate")
    states = np.stack([np.zeros(unit.size, bool), *(~mask for mask in masks.values())])
    changed = states[1:] != states[:-1]
    percents = np.array(list(masks))
    flips = tuple(tuple(map(int, percents[column])) for column in changed.T)
    return RemovalOrder(min(masks), max(masks), flips)


def pruned_counts(plan: Plan, unit: Unit) -> tuple[int, ...]:
    """How many filters of a unit go at every whole percent, 0 to 100, under a plan's criterion and options."""
    count, options = get_criterion(plan.criterion).count, plan.options
    return tuple(count(unit.size, percent / 100, options=options, blocks=unit.blocks) for percent in PERCENTS)
