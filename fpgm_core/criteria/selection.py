"""From scores and a count to a keep mask: the rounding function, locks, the two-stage selectors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fpgm_core.errors import FpgmError


def check_rate(rate: float, where: str = "rate") -> float:
    """`rate` itself, a fraction pruned in 0..1. Raises FpgmError for anything else."""
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 <= rate <= 1:
        raise FpgmError(f"{where} {rate!r} is not a fraction; give the share to prune, from 0 to 1")
    return float(rate)


def num_pruned(n: int, rate: float) -> int:
    """How many of `n` filters a rate prunes: floor(n * rate + 1e-9), at most n - 1. 40% of 16 is 6."""
    return min(n - 1, math.floor(n * check_rate(rate) + 1e-9))


def lowest(scores: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` lowest scores, lowest first; ties go to the lower index."""
    return np.argsort(scores, kind="stable")[:count]


def check_locks(
    n: int, count: int, locked_in: Sequence[int], locked_out: Sequence[int], where: str, blocks: int = 1
) -> None:
    """Raise FpgmError where locks name filters that do not exist, contradict, or leave a rate no room.

    `count` filters are pruned of each of `blocks` equal parts of the `n`.
    """
    wrong = [i for i in (*locked_in, *locked_out) if not 0 <= i < n]
    if wrong:
        raise FpgmError(f"{where} has no filter {wrong[0]}; its filters are 0 to {n - 1}")
    both = sorted(set(locked_in) & set(locked_out))
    if both:
        raise FpgmError(f"filter {both[0]} of {where} is locked in and locked out; choose one")
    size = n // blocks
    for begin in range(0, n, size):
        part = where if blocks == 1 else f"{where}, group of filters {begin} to {begin + size - 1}"
        out, kept = (len({i for i in locks if begin <= i < begin + size}) for locks in (locked_out, locked_in))
        if out > count:
            raise FpgmError(
                f"{part}: {out} filters are locked out but its rate prunes only {count}; raise the rate or unlock some"
            )
        if kept > size - count:
            raise FpgmError(
                f"{part}: {kept} filters are locked in but its rate keeps only {size - count}; "
                "lower the rate or unlock some"
            )
