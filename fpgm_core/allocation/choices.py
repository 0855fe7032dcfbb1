"""What a solver may choose from: how many filters each unit can lose, under a plan's options and locks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fpgm_core.criteria import get_criterion
from fpgm_core.errors import FpgmError
from fpgm_core.graph import Unit
from fpgm_core.pruning import Network, Plan


@dataclass(frozen=True, eq=False)
class UnitChoices:
    """One unit: the numbers of filters it can lose, ascending, int (n,), each with a rate that prunes them."""

    unit: Unit
    counts: np.ndarray
    rates: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Choices:
    """Every unit of a plan's coupling with what it can lose. `like` says criterion, coupling, options and locks.

    An allocation is one index a unit into its `counts`, int (units,). `models` remembers what they cost, see
    `CostMeasure.of`.
    """

    network: Network
    like: Plan
    units: tuple[UnitChoices, ...]
    models: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, network: Network, like: Plan, *, fixed: Collection[str] = ()) -> Choices:
        """The choices under a plan's criterion, options and locks; units in `fixed` stay at the plan's own rate.

        Raises FpgmError for a plan that does not fit the network, and for a unit that is not there.
        """
        network.check(like)
        units = network.units(like.coupling)
        if unknown := sorted(set(fixed) - {unit.name for unit in units}):
            raise FpgmError(f"no unit {unknown[0]!r} under coupling {like.coupling}; `layers` lists them")
        return cls(network, like, tuple(_choices_of(network, like, unit, unit.name in fixed) for unit in units))

    def plan(self, chosen: Sequence[int] | np.ndarray) -> Plan:
        """The plan of an allocation."""
        picked = zip(self.units, chosen, strict=True)
        return replace(self.like, rates={one.unit.name: one.rates[index] for one, index in picked})

    def counts(self, chosen: np.ndarray) -> np.ndarray:
        """The filters pruned of each unit, int (..., units), under allocations int (..., units)."""
        columns = [one.counts[chosen[..., place]] for place, one in enumerate(self.units)]
        return np.stack(columns, axis=-1)

    def nearest(self, counts: Mapping[str, int]) -> np.ndarray:
        """The allocation whose counts are nearest those wanted, by unit name; fewer pruned where two are as near."""
        return np.array([int(np.abs(one.counts - counts.get(one.unit.name, 0)).argmin()) for one in self.units])

    def between(self, low: np.ndarray, high: np.ndarray) -> Choices:
        """The same with every unit's choices from one index to another, int (units,) each, both among them."""
        units = tuple(
            UnitChoices(one.unit, one.counts[a : b + 1], one.rates[a : b + 1])
            for one, a, b in zip(self.units, low, high, strict=True)
        )
        return Choices(self.network, self.like, units)

    @property
    def least(self) -> np.ndarray:
        """The allocation that prunes least: nothing but what is locked out or fixed."""
        return np.zeros(len(self.units), dtype=int)

    @property
    def most(self) -> np.ndarray:
        """The allocation that prunes most."""
        return np.array([len(one.counts) - 1 for one in self.units])


def _choices_of(network: Network, like: Plan, unit: Unit, fixed: bool) -> UnitChoices:
    criterion, options = get_criterion(like.criterion), like.options
    size = unit.size // unit.blocks
    if fixed:
        rates = [like.rate(unit.name)]
    else:  # a count only ever steps up where one of the stages' shares of the rate reaches a whole filter
        shares = [share for share in criterion.shares(options) if share > 0]
        rates = sorted({min(1.0, k / (size * share)) for share in shares for k in range(int(size * share) + 1)})
    found: dict[int, float] = {}
    for rate in rates:
        count = criterion.count(unit.size, rate, options=options, blocks=unit.blocks)
        if count not in found and _leaves_room(like, unit, count):
            found[count] = rate
    if not found:
        network.keep_mask(like, unit)  # says which lock has no room, where the plan's own rate has none
        raise FpgmError(f"the locks of {unit.name} leave no number of filters to prune; unlock some")
    counts = np.array(sorted(found))
    return UnitChoices(unit, counts, tuple(found[count] for count in counts))


def _leaves_room(like: Plan, unit: Unit, count: int) -> bool:
    """Whether a count has room for the unit's locks."""
    size, each = unit.size // unit.blocks, count // unit.blocks
    locked = [
        np.array(unit.with_copies(locks.get(unit.name, ())), dtype=int) // size
        for locks in (like.locked_out, like.locked_in)
    ]
    out, kept = (np.bincount(blocks, minlength=unit.blocks) for blocks in locked)
    return bool((out <= each).all() and (kept <= size - each).all())
