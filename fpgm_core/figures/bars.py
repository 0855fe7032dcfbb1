"""Intervals as plotly draws them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fpgm_core.evaluation import Interval


def error_bars(intervals: Sequence[Interval], scale: float = 1.0, **style: Any) -> dict[str, Any]:
    """Plotly's `error_x` or `error_y`: from each value to its interval's ends, times `scale`, in a `style`."""
    ends = ("value", "low", "high")
    value, low, high = (scale * np.array([getattr(interval, end) for interval in intervals]) for end in ends)
    return {"type": "data", "symmetric": False, "array": high - value, "arrayminus": value - low, "width": 3, **style}
