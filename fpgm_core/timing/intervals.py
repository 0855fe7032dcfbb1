"""Intervals of medians, without assuming how times are distributed; and what may be said of a ratio of two."""

from __future__ import annotations

from functools import cache

import numpy as np

from fpgm_core.evaluation import Interval

FEWEST = 6  # values of which the least and the largest bracket the median with 95% confidence: 1 - 2 / 2^6
FASTER, SLOWER, SAME, BUSY = "faster", "slower", "same", "busy"
VERDICTS = {
    FASTER: "faster",
    SLOWER: "slower",
    SAME: "no difference found",
    BUSY: "the machine was too busy to say",
}


def median_interval(values: np.ndarray) -> Interval:
    """The median of `values` (N,) with a 95% interval of order statistics.

    The interval between the k-th smallest and the k-th largest misses the median where fewer than k values fall on one
    side of it: binomial, whatever the values' distribution (David and Nagaraja, Order Statistics, 7.1). Raises
    ValueError for fewer than `FEWEST` values, which no 95% interval can be made of.
    """
    if len(values) < FEWEST:
        raise ValueError(f"{len(values)} values have no 95% interval of their median")
    ordered, rank = np.sort(values), _rank(len(values))
    return Interval(float(np.median(ordered)), float(ordered[rank]), float(ordered[-1 - rank]))


@cache
def _rank(count: int) -> int:
    """The largest r so that at most r of `count` fair coins show heads with a chance of at most 2.5%."""
    from scipy.stats import binom  # heavy, and needed here alone

    rank = int(binom.ppf(0.025, count, 0.5))
    return rank if binom.cdf(rank, count, 0.5) <= 0.025 else rank - 1


def ratio_verdict(ratio: Interval, busy: bool, width: float) -> str:
    """What a ratio, dense by compact, allows to say: one of `VERDICTS`.

    Where its interval includes 1 nothing is faster; where the machine was busy and the interval is wider than +-
    `width`, not even that no difference was found.
    """
    if ratio.low > 1:
        return FASTER
    if ratio.high < 1:
        return SLOWER
    return BUSY if busy and not is_narrow(ratio, width) else SAME


def is_narrow(interval: Interval, width: float) -> bool:
    """Whether an interval reaches no further than +- `width` of its value, a share, on average of both sides."""
    return interval.high - interval.low <= 2 * width * interval.value
