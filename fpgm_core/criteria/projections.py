"""Filters in two dimensions, with their geometric median, and how far each picture can be trusted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fpgm_core.criteria.diagnostics import correlation, rankdata, spearman
from fpgm_core.criteria.geometry import GeometricMedian, geometric_median, pairwise_distances
from fpgm_core.criteria.umap_reduction import Reduced, reduce
from fpgm_core.errors import FpgmError
from fpgm_core.runtime.extras import naming_the_extra

Reduction = Callable[[Mapping[str, Any], np.ndarray, np.ndarray], Reduced]
UMAP_MINIMUM = 10
UMAP_SEED = 0
_ROUNDING = 1e-15
# UMAP calls a function of two filters for every pair; of more filters than this, one matrix of distances is quicker.
_PAIR_BY_PAIR = 512
_FLAT = 1e-6  # of the largest extent: what float32 weights differ by rounding
# UMAP computes in float32, whose squares overflow, or vanish, far outside of this.
_FLOAT32_RANGE = (1e-12, 1e12)


@dataclass(frozen=True)
class Faithfulness:
    """How well on-screen distances tell the true ones.

    `trustworthiness` in 0..1 (Venna and Kaski 2001; None under 5 filters), `distances` the Spearman
    correlation of all pairwise distances, `to_median` that of true and on-screen distance to the median.
    """

    trustworthiness: float | None
    distances: float | None
    to_median: float | None


@dataclass(frozen=True, eq=False)
class Projection:
    """Where N filters and their geometric median lie on the plane.

    `points` (N, 2) and `median` (2,) are float64. `exact_median` says whether the median's place is
    its true image (PCA, radial) or an estimate (UMAP's `transform`). `distances` (N,) are the true
    distances to the median.
    """

    method: str
    points: np.ndarray
    median: np.ndarray
    exact_median: bool
    distances: np.ndarray
    faithfulness: Faithfulness


class _Layer:
    """Filters (N, ...) with what their pictures share: the median, the true distances, the principal plane."""

    def __init__(self, filters: Tensor) -> None:
        self.filters = filters
        self.flat: np.ndarray = filters.detach().cpu().double().flatten(1).numpy()

    @cached_property
    def median(self) -> GeometricMedian:
        return geometric_median(self.filters)

    @cached_property
    def distances(self) -> np.ndarray:
        """Between all filters, (N, N)."""
        return pairwise_distances(self.filters).cpu().numpy()

    @cached_property
    def ranks(self) -> np.ndarray:
        """The ranks of all pairs' distances, above the diagonal row by row."""
        return rankdata(self.distances[np.triu_indices(len(self.flat), 1)])

    @cached_property
    def in_plane(self) -> tuple[np.ndarray, np.ndarray]:
        """The filters' principal components (N, 2), and the median's (2,)."""
        plane, centre = _principal_plane(self.flat)
        return (self.flat - centre) @ plane, (self.median.point.numpy() - centre) @ plane


def exact_projections(filters: Tensor) -> tuple[Projection, Projection]:
    """`pca` and `radial` of the same filters, which have most of their work in common."""
    layer = _Layer(filters)
    return _pca(layer), _radial(layer)


def pca(filters: Tensor) -> Projection:
    """Principal components of filters (N, ...): a linear image, so the median's place is exact."""
    return _pca(_Layer(filters))


def _pca(layer: _Layer) -> Projection:
    return _projection("pca", layer, *layer.in_plane, exact=True)


def _principal_plane(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    centre = x.mean(0)
    _, lengths, axes = np.linalg.svd(x - centre, full_matrices=False)
    # What is left of equal numbers after rounding is no direction: a picture would magnify it.
    real = lengths > _ROUNDING * np.abs(x).max() * np.sqrt(x.size)
    axes = axes[:2][real[:2]]
    # A singular vector's sign is arbitrary: fix it, so that pictures do not flip between machines.
    axes = axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])[:, None]
    plane = np.zeros((x.shape[1], 2))
    plane[:, : len(axes)] = axes.T
    return plane, centre


def radial(filters: Tensor) -> Projection:
    """The median at the origin, each filter at its true distance; angles are those of PCA around the median."""
    return _radial(_Layer(filters))


def _radial(layer: _Layer) -> Projection:
    points, place = layer.in_plane
    offset = points - place
    angle = np.arctan2(offset[:, 1], offset[:, 0])
    radius = layer.median.distances.numpy()
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return _projection("radial", layer, points, np.zeros(2), exact=True)


def umap(filters: Tensor, seed: int = UMAP_SEED, *, reduction: Reduction = reduce) -> Projection:
    """UMAP of filters (N, ...), fitted on the filters only; the median is placed by `transform`: approximate.

    The same seed gives the same picture on one machine. Starts from scaled PCA coordinates, since the
    spectral start fails on few points. `reduction` is what fits: here, or in a process of its own.

    Raises FpgmError under 10 filters, where it means nothing, where all filters are equal, and without umap-learn.
    """
    n = len(filters)
    if n < UMAP_MINIMUM:
        raise FpgmError(f"UMAP needs at least {UMAP_MINIMUM} filters and this layer has {n}; look at PCA instead")
    return _umap(_Layer(filters), seed, pair_by_pair=n <= _PAIR_BY_PAIR, reduction=reduction)


def _umap(layer: _Layer, seed: int, *, pair_by_pair: bool, reduction: Reduction) -> Projection:
    """UMAP on what its function of two filters says, or on one matrix of distances."""
    start = _umap_start(layer.flat, seed)
    scale = _umap_scale(layer.flat)
    if pair_by_pair:
        metric, fitted, placed = "euclidean", layer.flat, layer.median.point
    else:
        metric, fitted, placed = "precomputed", layer.distances, layer.median.distances
    settings = {
        "n_neighbors": min(15, len(layer.flat) - 1),
        "n_components": 2,
        "init": start,
        "random_state": seed,
        "n_jobs": 1,
        "transform_seed": seed,
        "metric": metric,
    }
    with naming_the_extra("umap", extra="figures"):
        points, places = reduction(settings, fitted * scale, placed.cpu().numpy()[None] * scale)
    return _projection("umap", layer, points.astype(np.float64), places[0].astype(np.float64), exact=False)


def ready_umap(reduction: Reduction = reduce) -> None:
    """Have UMAP compiled, for which its first fit in a process takes many seconds; a second call is quick."""
    few = _Layer(torch.randn(UMAP_MINIMUM, 3, generator=torch.Generator().manual_seed(0)))
    for pair_by_pair in (True, False):
        _umap(few, UMAP_SEED, pair_by_pair=pair_by_pair, reduction=reduction)


def _umap_start(x: np.ndarray, seed: int) -> np.ndarray:
    """Where UMAP begins, float32 (N, 2): PCA's coordinates, or chance along an axis in which filters do not differ.

    UMAP divides by the start's extent along each axis. Raises FpgmError where the filters do not differ at all.
    """
    plane, centre = _principal_plane(x)
    start = (x - centre) @ plane
    if not start.any():
        raise FpgmError("all filters of this layer are equal, so UMAP has nothing to tell apart; look at PCA instead")
    start = 10 * start / np.abs(start).max()
    flat = np.ptp(start, axis=0) <= _FLAT * np.ptp(start)
    start[:, flat] = np.random.RandomState(seed).uniform(-10, 10, (len(x), int(flat.sum())))
    return start.astype(np.float32)


def _umap_scale(x: np.ndarray) -> float:
    """What filters are multiplied by before they are fitted: 1, but where float32 cannot hold their squares."""
    largest = float(np.abs(x).max())
    low, high = _FLOAT32_RANGE
    return 1.0 if low <= largest <= high else float(2.0 ** -np.round(np.log2(largest)))


def from_coordinates(
    method: str, filters: Tensor, points: np.ndarray, median_place: np.ndarray, exact_median: bool = False
) -> Projection:
    """A projection from coordinates computed before: points (N, 2) and the median's place (2,)."""
    return _projection(method, _Layer(filters), np.asarray(points), np.asarray(median_place), exact=exact_median)


def _projection(method: str, layer: _Layer, points: np.ndarray, place: np.ndarray, *, exact: bool) -> Projection:
    true = layer.median.distances.numpy()
    return Projection(method, points, place, exact, true, _faithfulness(layer, points, place))


def _faithfulness(layer: _Layer, points: np.ndarray, place: np.ndarray) -> Faithfulness:
    shown = np.hypot(*(points[:, None] - points).transpose(2, 0, 1))
    return Faithfulness(
        trustworthiness(layer.distances, shown),
        correlation(layer.ranks, rankdata(shown[np.triu_indices(len(points), 1)])) if len(points) > 2 else None,
        spearman(layer.median.distances.numpy(), np.linalg.norm(points - place, axis=1)),
    )


def trustworthiness(true: np.ndarray, shown: np.ndarray, neighbours: int = 5) -> float | None:
    """Share of on-screen neighbours that are true ones, 1 = all (Venna and Kaski, ICANN 2001).

    `true` and `shown` are distance matrices (N, N). Uses min(neighbours, under N / 2); None under 5 points.
    """
    n = len(true)
    if n < 5:
        return None
    k = min(neighbours, (n - 1) // 2)
    rows, far = np.arange(n), shown.copy()
    far[rows, rows] = np.inf
    total = 0
    for _ in range(k):  # the nearest on screen, then the next: of equals the first
        near = far.argmin(1)
        far[rows, near] = np.inf
        gap = true[rows, near][:, None]
        nearer = (true < gap) | ((true == gap) & (rows < near[:, None]))
        nearer[rows, rows] = False
        total += int(np.maximum(nearer.sum(1) + 1 - k, 0).sum())
    return float(1 - 2 / (n * k * (2 * n - 3 * k - 1)) * total)
