"""The damage surface: what every unit loses at every rate once it is repaired, predicted from one calibration pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fpgm_core.calibration import RIDGE
from fpgm_core.calibration.block_obs import UnitLoss
from fpgm_core.calibration.moments import Moments
from fpgm_core.criteria import check_rate
from fpgm_core.errors import FpgmError
from fpgm_core.pruning import Network, Plan
from fpgm_core.runtime.progress import Progress, Work, run

SURFACE_RATES = tuple(tenth / 10 for tenth in range(1, 10))


@dataclass(frozen=True, eq=False)
class DamageSurface:
    """Predicted loss by unit and rate, float64 (units, rates).

    A unit's loss is the mean squared error that its consumers are left with after the best refit, each as a share of
    the variance of what it makes (0: others stand in for all that goes; 1 for a consumer: nothing is left of it),
    summed over consumers. `skipped` says why some units have none.
    """

    units: tuple[str, ...]
    rates: tuple[float, ...]
    loss: np.ndarray
    skipped: tuple[tuple[str, str], ...] = ()

    def at(self, unit: str, rate: float) -> float:
        """The predicted loss of one unit at a rate, 0..1, on a straight line between the rates of the table."""
        if unit not in self.units:
            raise FpgmError(f"no damage is predicted for {unit}: {dict(self.skipped).get(unit, 'it is no unit here')}")
        row = self.loss[self.units.index(unit)]
        return float(np.interp(check_rate(rate), (0.0, *self.rates), (0.0, *row)))

    def predicted(self, plan: Plan) -> float:
        """The predicted losses of a plan's units at its rates, summed: more is worse. No accuracy.

        Plans of equal MACs it ranks poorly, see `fpgm_core.allocation.ranking`.
        """
        return sum(self.at(unit, rate) for unit, rate in plan.rates.items())


def damage_work(
    network: Network,
    moments: Moments,
    *,
    plan: Plan | None = None,
    rates: Sequence[float] = SURFACE_RATES,
    ridge: float = RIDGE,
) -> Work[DamageSurface]:
    """The damage surface of a plan's criterion and coupling (fpgm, inner); its rates and locks do not count.

    Filters go as the rate rises, and every consumer's least squares problem is updated as they do: each entry is exact
    for its unit alone in the dense network.
    """
    like = replace(plan or network.plan(coupling="inner"), rates={}, locked_in={}, locked_out={})
    ascending = tuple(sorted(set(map(check_rate, rates))))
    units, rows, skipped = [], list[list[float]](), []
    everything = network.units(like.coupling)
    for number, unit in enumerate(everything, 1):
        try:
            loss = UnitLoss.of(network, unit.members, moments=moments, ridge=ridge, relative=True)
        except FpgmError as error:
            skipped.append((unit.name, str(error)))
        else:
            gone, total, row = np.zeros(unit.size, dtype=bool), 0.0, list[float]()
            for rate in ascending:
                out = ~network.keep_mask(like.with_rates({unit.name: rate}), unit)
                total += loss.remove(np.flatnonzero(out & ~gone))
                gone |= out
                row.append(total)
            units.append(unit.name)
            rows.append(row)
        yield Progress(number, len(everything), f"predicting {unit.name}")
    table = np.array(rows).reshape(len(units), len(ascending))
    table.setflags(write=False)
    return DamageSurface(tuple(units), ascending, table, tuple(skipped))


def damage(network: Network, moments: Moments, **options: Any) -> DamageSurface:
    """The damage surface, all at once. See `damage_work`, whose other arguments are `options`."""
    return run(damage_work(network, moments, **options))
