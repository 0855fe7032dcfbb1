"""Why this rate: what the next filter of every unit would cost, and what the last one did, by what it saves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fpgm_core.allocation.costs import CostFunction
from fpgm_core.allocation.losses import Losses


@dataclass(frozen=True)
class Price:
    """One unit in a plan: `pruned` of its `size` filters go; predicted losses as they are, and one step either way.

    `next` is what the next step saves, `last` what the last one saved, in the goal's cost with all other units as they
    are; both None at the ends. `next_price` and `last_price` are predicted loss by million of that. Where the next
    step of no unit is cheaper than the last of another, no exchange helps: the plan is done.
    """

    unit: str
    size: int
    pruned: int
    loss: float
    loss_fewer: float | None
    loss_more: float | None
    last: float | None
    next: float | None

    @property
    def next_price(self) -> float | None:
        """What a million more saved here would cost, in predicted loss; None where nothing more can be saved."""
        return _price(self.loss, self.loss_more, self.next)

    @property
    def last_price(self) -> float | None:
        """What a million saved last has cost here; None where nothing was."""
        return _price(self.loss_fewer, self.loss, self.last)


def _price(less: float | None, more: float | None, saved: float | None) -> float | None:
    if less is None or more is None or saved is None or saved <= 0:
        return None
    return (more - less) / (saved / 1e6)


def prices(losses: Losses, cost: CostFunction, chosen: np.ndarray) -> tuple[Price, ...]:
    """The prices of every unit under an allocation int (units,), in forward order."""
    choices = losses.choices
    steps = [chosen.copy() for _ in range(2 * len(chosen))]
    for place in range(len(chosen)):
        steps[2 * place][place] = max(0, chosen[place] - 1)
        steps[2 * place + 1][place] = min(len(choices.units[place].counts) - 1, chosen[place] + 1)
    costs, now = cost(choices.counts(np.array(steps))), float(cost(choices.counts(chosen[None]))[0])
    found = []
    for place, (one, row) in enumerate(zip(choices.units, losses.by_unit, strict=True)):
        at = int(chosen[place])
        can_less, can_more = at > 0, at + 1 < len(one.counts)
        found.append(
            Price(
                unit=one.unit.name,
                size=one.unit.size,
                pruned=int(one.counts[at]),
                loss=float(row[at]),
                loss_fewer=float(row[at - 1]) if can_less else None,
                loss_more=float(row[at + 1]) if can_more else None,
                last=float(costs[2 * place]) - now if can_less else None,
                next=now - float(costs[2 * place + 1]) if can_more else None,
            )
        )
    return tuple(found)


def bargain(found: tuple[Price, ...]) -> Price | None:
    """The unit where saving more costs least; None where nothing more can be saved."""
    able = [price for price in found if price.next_price is not None]
    return min(able, key=lambda price: price.next_price or 0.0, default=None)


def dearest(found: tuple[Price, ...]) -> Price | None:
    """The unit where saving more costs most; None where nothing more can be saved."""
    able = [price for price in found if price.next_price is not None]
    return max(able, key=lambda price: price.next_price or 0.0, default=None)
