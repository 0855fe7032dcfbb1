"""Does the paper's premise hold? Distance sums, and norms, against measured refit cost, layer by layer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fpgm_core.calibration import Moments, readings, refit_cost
from fpgm_core.criteria import CRITERIA, spearman
from fpgm_core.evaluation.intervals import Z95, Interval
from fpgm_core.graph import weights_of
from fpgm_core.pruning import Network


def rank_interval(first: np.ndarray, second: np.ndarray) -> Interval | None:
    """Spearman's rank correlation of two arrays (N,), with a 95% interval; None where one is constant, or N < 5.

    Fisher's z with the variance (1 + rho^2 / 2) / (N - 3) of Bonett and Wright (Psychometrika 65, 2000): the N
    filters are taken as a sample of those the layer could have had.
    """
    rho = spearman(first, second)
    if rho is None or len(first) < 5:
        return None
    inside = min(max(rho, -1 + 1e-12), 1 - 1e-12)
    half = Z95 * math.sqrt((1 + inside**2 / 2) / (len(first) - 3))
    return Interval(rho, math.tanh(math.atanh(inside) - half), math.tanh(math.atanh(inside) + half))


@dataclass(frozen=True, eq=False)
class Replaceability:
    """One layer: what the criteria say of each of its filters, and what each really costs, float64 (N,) each.

    `distance_sums` are g, `norms` L2, `costs` the refit costs. `by_distance` and `by_norm` are their rank
    correlations with the costs; None where there is none.
    """

    layer: str
    distance_sums: np.ndarray
    norms: np.ndarray
    costs: np.ndarray
    by_distance: Interval | None
    by_norm: Interval | None

    @property
    def verdict(self) -> str:
        """Whether the filters nearest the others are the cheapest to replace, in words; of the interval alone."""
        return verdict(self.by_distance)


_VERDICTS = {
    "holds": "holds: filters nearer the others are cheaper to replace",
    "reversed": "reversed: filters nearer the others are dearer to replace",
    "undecided": "undecided: the interval includes 0",
    "few": "too few filters to tell",
}


def premise(interval: Interval | None) -> str:
    """How the paper's premise stands by an interval of a rank correlation with refit cost.

    "holds" where it lies above 0, "reversed" below it, "undecided" around it; "few" where there is none.
    """
    if interval is None:
        return "few"
    return "holds" if interval.low > 0 else "reversed" if interval.high < 0 else "undecided"


def verdict(interval: Interval | None) -> str:
    """What such an interval says, in words."""
    return _VERDICTS[premise(interval)]


def replaceability(network: Network, moments: Moments, coupling: str = "inner") -> tuple[Replaceability, ...]:
    """Every layer that a coupling may prune and whose consumers have moments, in forward order."""
    layers = []
    for unit in network.units(coupling):
        for member in unit.members:
            read = readings(network, [member])
            if not read or any(one.layer not in moments.layers for one in read):
                continue
            filters = weights_of(network.module, member)
            sums, norms = (CRITERIA[name].score(filters).cpu().numpy() for name in ("fpgm", "l2_norm"))
            costs = refit_cost(network, member, moments=moments)
            layers.append(
                Replaceability(
                    layer=member,
                    distance_sums=sums,
                    norms=norms,
                    costs=costs,
                    by_distance=rank_interval(sums, costs),
                    by_norm=rank_interval(norms, costs),
                )
            )
    return tuple(layers)
