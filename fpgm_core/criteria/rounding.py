"""From a rate to a count: the one rounding function."""

from __future__ import annotations

import math

from fpgm_core.errors import FpgmError


def check_rate(rate: float, where: str = "rate") -> float:
    """`rate` itself, a fraction pruned in 0..1. Raises FpgmError for anything else."""
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 <= rate <= 1:
        raise FpgmError(f"{where} {rate!r} is not a fraction; give the share to prune, from 0 to 1")
    return float(rate)


def num_pruned(n: int, rate: float) -> int:
    """How many of `n` filters a rate prunes: floor(n * rate + 1e-9), at most n - 1. 40% of 16 is 6."""
    return min(n - 1, math.floor(n * check_rate(rate) + 1e-9))
