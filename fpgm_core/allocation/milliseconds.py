"""Milliseconds as a cost: what the table of a machine predicts of any allocation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fpgm_core.allocation.choices import Choices
from fpgm_core.allocation.costs import CostFunction, macs_of
from fpgm_core.allocation.goals import CostMeasure
from fpgm_core.errors import FpgmError
from fpgm_core.pruning import PrunedNetwork
from fpgm_core.timing import Predictor, widths

NAME = "ms"
_NANOSECONDS = 1e6  # of a millisecond
_ROOM = 0.02  # of what a unit can save: by less than that nothing is a bargain


def milliseconds(predictor: Predictor) -> CostMeasure:
    """The measure of cost called "ms", of one network under one coupling on one machine; see `register_cost`.

    It counts nanoseconds: prices are by a million of what is saved, so they are by the millisecond.

        register_cost(milliseconds(predictor))
        suggest(network, images=train, cuts={"ms": 0.4})

    Both its parts raise FpgmError for another network or coupling than the predictor's.
    """

    def model(choices: Choices) -> CostFunction:
        _check(predictor, choices.network.fingerprint, choices.like.coupling)
        counted = macs_of(choices)  # of it alone how many filters and channels are left

        def cost(counts: np.ndarray) -> np.ndarray:
            return _NANOSECONDS * predictor.of_widths(counted.channels.left(counts), counted.rows.left(counts))

        return cost

    def exact(pruned: PrunedNetwork) -> float:
        if pruned.prunes_nothing:
            return _NANOSECONDS * predictor.dense.value
        _check(predictor, pruned.network.fingerprint, pruned.plan.coupling)
        inputs, outputs = widths(pruned)
        return _NANOSECONDS * float(predictor.of_widths(inputs[None], outputs[None])[0])

    unit = f"nanoseconds of {predictor.table.identity['batch']} images"
    return CostMeasure(NAME, "nanoseconds", unit, model, exact)


@dataclass(frozen=True, eq=False)
class Stairs:
    """What a network takes at every count of filters that one unit can lose, all others as they are.

    `counts` are the filters pruned, ascending, int (n,); `ms` what is predicted of each, float64 (n,).
    """

    unit: str
    size: int
    counts: np.ndarray
    ms: np.ndarray

    @property
    def bargains(self) -> np.ndarray:
        """Which counts are bargains, bool (n,): whatever keeps more filters takes longer, by a share of the stairs."""
        room = _ROOM * (self.ms.max() - self.ms.min())
        found = np.zeros(len(self.ms), dtype=bool)
        least = np.inf
        for place, ms in enumerate(self.ms):
            if ms < least - room:
                found[place], least = True, ms
        return found

    def better(self, pruned: int) -> int | None:
        """How many filters to prune instead, fewer, at no more milliseconds; None where a count is none too many."""
        at = int(np.abs(self.counts - pruned).argmin())
        fewer = np.flatnonzero(self.ms[:at] <= self.ms[at] * (1 + 1e-6))
        return int(self.counts[fewer[0]]) if len(fewer) else None

    def nearest_bargain(self, pruned: int) -> int:
        """The bargain count nearest to so many filters pruned."""
        bargains = self.counts[self.bargains]
        return int(bargains[np.abs(bargains - pruned).argmin()])


def stairs_of(choices: Choices, predictor: Predictor, counts: Mapping[str, int]) -> dict[str, Stairs]:
    """The stairs of every unit, by name, beside an allocation: the filters pruned by unit.

    Raises FpgmError for another network or coupling than the predictor's.
    """
    cost, now = milliseconds(predictor).model(choices), choices.nearest(counts)
    rows = [np.repeat(now[None], len(one.counts), axis=0) for one in choices.units]
    for place, moved in enumerate(rows):
        moved[:, place] = np.arange(len(moved))
    ms = cost(choices.counts(np.concatenate(rows))) / _NANOSECONDS
    parts = np.split(ms, np.cumsum([len(moved) for moved in rows])[:-1])
    return {
        one.unit.name: Stairs(one.unit.name, one.unit.size, one.counts, part)
        for one, part in zip(choices.units, parts, strict=True)
    }


def _check(predictor: Predictor, fingerprint: str, coupling: str) -> None:
    if (fingerprint, coupling) != (predictor.network.fingerprint, predictor.coupling):
        raise FpgmError(
            f"the milliseconds are of {predictor.network.name}, {predictor.coupling}; probe this network under this "
            "coupling"
        )
