"""Intervals of medians, and what may be said of a ratio of two."""

from __future__ import annotations

import numpy as np

from fpgm_core.evaluation import Interval
from fpgm_core.timing.turns import is_narrow, median_of

FASTER, SLOWER, SAME, BUSY = "faster", "slower", "same", "busy"
VERDICTS = {
    FASTER: "faster",
    SLOWER: "slower",
    SAME: "no difference found",
    BUSY: "the machine was too busy to say",
}


def median_interval(values: np.ndarray) -> Interval:
    """The median of `values` (N,) with a 95% interval of order statistics: see `median_of`."""
    return Interval(*median_of(values))


def ms_told(value: float, low: float, high: float, *, unit: str = "") -> str:
    """Milliseconds with their interval in three digits, never as powers of ten: `1690 ms [406, 2200]`."""
    told, least, most = (f"{float(f'{number:.3g}'):.10g}" for number in (value, low, high))
    return f"{told}{unit} [{least}, {most}]"


def ratio_verdict(ratio: Interval, busy: bool, width: float) -> str:
    """What a ratio, dense by compact, allows to say: one of `VERDICTS`.

    Where its interval includes 1 nothing is faster; where the machine was busy and the interval is wider than +-
    `width`, not even that no difference was found.
    """
    if ratio.low > 1:
        return FASTER
    if ratio.high < 1:
        return SLOWER
    narrow = is_narrow((ratio.value, ratio.low, ratio.high), width)
    return BUSY if busy and not narrow else SAME
