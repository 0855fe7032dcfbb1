"""The norm criterion's two requirements (paper 3.2, Fig. 2), and how far two criteria agree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from fpgm_core.criteria.fpgm import FPGM
from fpgm_core.criteria.l2_norm import L2_NORM


@dataclass(frozen=True)
class NormDiagnostics:
    """One layer's L2 norms, and their agreement with FPGM.

    `spread` is std / mean (requirement 1: large), `floor` is min / mean (requirement 2: near 0); the
    paper gives no thresholds. `std` is the population's. `spearman` is the rank correlation of norms
    with g; None where either is constant.
    """

    l2_min: float
    l2_max: float
    l2_mean: float
    l2_std: float
    spearman: float | None

    @classmethod
    def of(cls, norms: np.ndarray, sums: np.ndarray) -> NormDiagnostics:
        """The figures of a layer's norms and of its g, (N,) each."""
        return cls(
            float(norms.min()), float(norms.max()), float(norms.mean()), float(norms.std()), spearman(norms, sums)
        )

    @property
    def spread(self) -> float:
        """Standard deviation over mean of the norms."""
        return self.l2_std / self.l2_mean if self.l2_mean else 0.0

    @property
    def floor(self) -> float:
        """Smallest norm over the mean norm."""
        return self.l2_min / self.l2_mean if self.l2_mean else 0.0


def norm_diagnostics(filters: Tensor) -> NormDiagnostics:
    """The norm figures of one layer's filters, shape (N, ...)."""
    return NormDiagnostics.of(L2_NORM.score(filters).cpu().numpy(), FPGM.score(filters).cpu().numpy())


def rankdata(values: np.ndarray) -> np.ndarray:
    """Ranks 1..N of `values` (N,), equal values sharing the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return (last - (counts - 1) / 2)[inverse]


def spearman(first: np.ndarray, second: np.ndarray) -> float | None:
    """Spearman's rank correlation of two arrays (N,); None where one of them is constant."""
    return correlation(rankdata(np.asarray(first)), rankdata(np.asarray(second)))


def correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    """Pearson's correlation of two arrays (N,); None where one of them is constant."""
    a, b = first - first.mean(), second - second.mean()
    size = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / size) if size > 0 else None


def overlap(first_keep: np.ndarray, second_keep: np.ndarray) -> float | None:
    """Share of the pruned filters that two keep masks (N,) have in common: |both| / max(|first|, |second|).

    None where nothing is pruned. Divides by the larger set, since fpgm_mix may prune fewer.
    """
    first, second = ~first_keep, ~second_keep
    largest = max(int(first.sum()), int(second.sum()))
    return float((first & second).sum() / largest) if largest else None
