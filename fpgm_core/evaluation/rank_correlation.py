"""Rank correlations with intervals, plain and given a third quantity, and what stands when many are judged at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from fpgm_core.criteria import spearman
from fpgm_core.evaluation.intervals import Interval

_FEWEST = 5  # pairs, beyond what is held fixed: fewer give no interval worth a look
_ERROR = 0.05
_NORMAL = NormalDist()


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rank correlation over `pairs` pairs, with the ranks of `given` other quantities held fixed.

    Intervals are Fisher's z with the variance (1 + rho^2 / 2) / (pairs - given - 3) of Bonett and Wright
    (Psychometrika 65, 2000): the pairs are taken as a sample of those there could have been, and each quantity that is
    held fixed costs one of them (Fisher, Metron 3, 1924).
    """

    value: float
    pairs: int
    given: int = 0

    def interval(self, error: float = _ERROR) -> Interval:
        """The interval that misses the true correlation with probability `error`."""
        half = _NORMAL.inv_cdf(1 - error / 2) * self._deviation
        return Interval(self.value, math.tanh(self._z - half), math.tanh(self._z + half))

    @property
    def p_value(self) -> float:
        """The largest `error` whose interval leaves out 0."""
        return 2 * _NORMAL.cdf(-abs(self._z) / self._deviation)

    @property
    def _z(self) -> float:
        return math.atanh(self._inside)

    @property
    def _inside(self) -> float:
        return min(max(self.value, -1 + 1e-12), 1 - 1e-12)

    @property
    def _deviation(self) -> float:
        return math.sqrt((1 + self._inside**2 / 2) / (self.pairs - self.given - 3))


def rank_correlation(
    first: np.ndarray, second: np.ndarray, *, given: np.ndarray | None = None
) -> RankCorrelation | None:
    """Spearman's correlation of two arrays (N,); with `given` (N,) the partial one, that array's ranks held fixed.

    Pairs that are not finite are left out. None where an array is constant, where `given` fixes one of the others
    wholly, or where fewer than five pairs are left (six with `given`).
    """
    arrays = [np.asarray(array, dtype=float) for array in (first, second, *([] if given is None else [given]))]
    finite = np.isfinite(arrays).all(0)
    arrays = [array[finite] for array in arrays]
    held, pairs = len(arrays) - 2, int(finite.sum())
    value = spearman(arrays[0], arrays[1])
    if value is None or pairs < _FEWEST + held:
        return None
    if held:
        value = _partial(value, spearman(arrays[0], arrays[2]), spearman(arrays[1], arrays[2]))
    return None if value is None else RankCorrelation(value, pairs, held)


def _partial(both: float, first: float | None, second: float | None) -> float | None:
    """The partial correlation from those of the two with each other and of each with what is held fixed."""
    if first is None or second is None:
        return None
    rest = (1 - first**2) * (1 - second**2)
    return min(1.0, max(-1.0, (both - first * second) / math.sqrt(rest))) if rest > 1e-12 else None


def rank_interval(first: np.ndarray, second: np.ndarray) -> Interval | None:
    """Spearman's rank correlation of two arrays (N,), with a 95% interval; None as for `rank_correlation`."""
    found = rank_correlation(first, second)
    return None if found is None else found.interval()


def holm(correlations: Sequence[RankCorrelation | None], error: float = _ERROR) -> tuple[Interval | None, ...]:
    """Each correlation's interval, widened until all of them together wrongly leave out 0 with probability `error`.

    Holm's step-down (Scandinavian Journal of Statistics 6, 1979): in order of evidence the intervals miss with
    error / m, error / (m - 1) and so on; from the first that holds 0, all others are as wide as that one.
    """
    known = {index: found for index, found in enumerate(correlations) if found is not None}
    intervals, share, stopped = dict[int, Interval](), error, False
    for rank, (index, found) in enumerate(sorted(known.items(), key=lambda item: item[1].p_value)):
        share = share if stopped else error / (len(known) - rank)
        intervals[index] = found.interval(share)
        stopped = stopped or not intervals[index].excludes_zero
    return tuple(intervals.get(index) for index in range(len(correlations)))
