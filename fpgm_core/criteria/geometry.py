"""Distances between filters, their geometric median and their medoid (FPGM paper, section 3.3)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fpgm_core.errors import FpgmError

# Below this share of the squared norms, a difference of products has lost too many digits.
_NEAR = 1e-6
# Sums closer than this share of the largest are decided by direct differences.
_TIE = 1e-9
# Newton's equations are solved to this share of the gradient, in at most so many steps.
_SOLVED = 1e-12
_CG_STEPS = 60
_CHUNK = 1 << 24
# Few enough that a part of the distances stays in a core's cache, enough to keep a matrix product busy.
_ROWS = 256


def _as_points(points: Tensor) -> Tensor:
    if points.ndim < 2 or len(points) == 0:
        raise FpgmError(f"filters must have shape (N, ...) with N >= 1, not {tuple(points.shape)}")
    return points.detach().reshape(len(points), -1).to(torch.float64)


def _direct_rows(x: Tensor, rows: Tensor) -> Tensor:
    """Distances from some rows of `x` to all of them, by differences: shape (len(rows), N)."""
    step = max(1, _CHUNK // max(1, x.numel()))
    parts = [torch.linalg.vector_norm(x[part, None, :] - x[None], dim=2) for part in rows.split(step)]
    return torch.cat(parts) if parts else x.new_zeros(0, len(x))


def _upper_distances(x: Tensor) -> Iterator[tuple[int, int, Tensor]]:
    """Distances between points (N, D), rows `begin` to `end` at a time: (end - begin, N - begin), columns from `begin`.

    What lies left of them is known by symmetry. One matrix product does most of the work; pairs so near that the
    product form loses digits are computed again by their difference, so that duplicates lie at exactly 0.
    """
    squares = (x * x).sum(1)
    step = max(1, _CHUNK // max(1, x.shape[1]))
    for begin in range(0, len(x), _ROWS):
        end = min(begin + _ROWS, len(x))
        scale = squares[begin:end, None] + squares[begin:]
        distances = torch.addmm(scale, x[begin:end], x[begin:].T, alpha=-2)
        near = distances <= scale.mul_(_NEAR)
        near.diagonal().fill_(False)
        distances.clamp_min_(0).sqrt_()
        first, second = near.nonzero(as_tuple=True)
        for i, j in zip(first.split(step), second.split(step), strict=True):
            distances[i, j] = torch.linalg.vector_norm(x[begin + i] - x[begin + j], dim=1)
        distances.diagonal().fill_(0)
        yield begin, end, distances


def pairwise_distances(filters: Tensor) -> Tensor:
    """Euclidean distances between filters, shape (N, N), float64, for filters of shape (N, ...).

    Symmetric; duplicates lie at exactly 0.
    """
    x = _as_points(filters)
    distances = x.new_empty(len(x), len(x))
    for begin, end, upper in _upper_distances(x):
        distances[begin:end, begin:] = upper
        distances[begin:, begin:end] = upper.T
    return distances


def distance_sums(filters: Tensor) -> Tensor:
    """g(F_j), the sum of Euclidean distances from each filter to all filters of its layer (Eq. 4).

    Shape (N,), float64, for filters of shape (N, ...). The filter itself adds 0, so leaving it out
    (g', Eq. 5 to 9) gives the same numbers. Rankings equal those of direct differences: sums too
    close to order by the product form are recomputed directly.
    """
    x = _as_points(filters)
    sums = x.new_zeros(len(x))
    for begin, end, upper in _upper_distances(x):
        sums[begin:end] += upper.sum(1)
        sums[end:] += upper[:, end - begin :].sum(0)
    order = sums.argsort()
    close = sums[order].diff() <= _TIE * sums.max()
    tied = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    tied[order[1:][close]] = True
    tied[order[:-1][close]] = True
    rows = tied.nonzero(as_tuple=True)[0]
    sums[rows] = _direct_rows(x, rows).sum(1)
    return sums


def manhattan_sums(filters: Tensor) -> Tensor:
    """Sum of L1 distances from each filter to all others, shape (N,), float64."""
    x = _as_points(filters)
    return torch.cdist(x, x, p=1).sum(1)


def cosine_sums(filters: Tensor) -> Tensor:
    """Sum of cosine distances (1 - cosine similarity) from each filter to all others, shape (N,), float64.

    A filter of zeros has no direction: its distance to every other filter is taken as 1.
    """
    x = _as_points(filters)
    norms = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    unit = torch.where(norms > 0, x / norms.clamp_min(torch.finfo(x.dtype).tiny), 0.0)
    # sum_k (1 - u_j . u_k) = N - u_j . sum_k u_k; a zero filter's distance to itself is 0, not 1.
    return len(x) - unit @ unit.sum(0) - (norms[:, 0] == 0).to(x.dtype)


def medoid(filters: Tensor) -> int:
    """Index of the filter with the smallest sum of distances to the others (Eq. 4); ties: the lower index."""
    return int(distance_sums(filters).argmin())


@dataclass(frozen=True, eq=False)
class GeometricMedian:
    """x_GM = argmin_x sum_k ||x - F_k||_2 of one layer (Eq. 1 and 2).

    `point` has shape (D,), float64, in the filters' flattened space; `value` is the minimised sum;
    `distances` (N,) are each filter's distance to it.
    """

    point: Tensor
    value: float
    distances: Tensor

    @property
    def nearest(self) -> int:
        """Index of the filter nearest the median (Eq. 3); ties: the lower index."""
        return int(self.distances.argmin())


def geometric_median(filters: Tensor, tolerance: float = 1e-12, max_iterations: int = 1000) -> GeometricMedian:
    """The geometric median of filters of shape (N, ...), accurate to about 1e-9 of its scale.

    If any data point is optimal it is the medoid, and Vardi and Zhang's condition (PNAS 2000) says
    so exactly: the other points' unit vectors sum to no more than its multiplicity. Otherwise the
    median is no data point, the sum of distances is smooth around it, and Weiszfeld's iteration
    followed by Newton steps (conjugate gradients on the Hessian) reaches it quadratically.
    """
    x = _as_points(filters)
    best = x[medoid(x)]
    if _is_optimal(x, best):
        point = _middle_of_the_optimal(x, best)
    else:
        point = _minimise(x, x.mean(0), tolerance, max_iterations)
        # Inside a cluster of near-duplicates the iteration crawls, and a member of it may already do better.
        point = min(point, best, key=lambda candidate: _sum_of_distances(x, candidate))
    distances = torch.linalg.vector_norm(x - point, dim=1)
    return GeometricMedian(point, float(distances.sum()), distances)


def _middle_of_the_optimal(x: Tensor, best: Tensor) -> Tensor:
    """The middle of all optimal data points: of two filters, or an even number on a line, several are.

    Every point between them is optimal too; the middle is the one that the filters' order does not decide.
    """
    sums = distance_sums(x)
    optimal = x[sums <= sums.min() * (1 + 1e-12)]
    return best if bool((optimal == best).all()) else optimal.unique(dim=0).mean(0)


def _is_optimal(x: Tensor, point: Tensor) -> bool:
    difference = x - point
    distance = torch.linalg.vector_norm(difference, dim=1)
    away = distance > 0
    pull = (difference[away] / distance[away, None]).sum(0)
    return float(torch.linalg.vector_norm(pull)) <= float((~away).sum()) * (1 + 1e-12)


def weiszfeld_step(x: Tensor, point: Tensor) -> Tensor:
    """One step towards the geometric median of points (N, D), with Vardi and Zhang's move off a data point."""
    difference = x - point
    distance = torch.linalg.vector_norm(difference, dim=1)
    away = distance > 0
    if not bool(away.any()):
        return point
    weights = 1 / distance[away]
    target = (weights[:, None] * x[away]).sum(0) / weights.sum()
    multiplicity = float((~away).sum())
    if multiplicity == 0:
        return target
    pull = float(torch.linalg.vector_norm((weights[:, None] * difference[away]).sum(0)))
    share = min(1.0, multiplicity / pull) if pull > 0 else 1.0
    return (1 - share) * target + share * point


def _minimise(x: Tensor, point: Tensor, tolerance: float, max_iterations: int) -> Tensor:
    scale = float(torch.linalg.vector_norm(x - point, dim=1).mean())
    value = _sum_of_distances(x, point)
    for iteration in range(max_iterations):
        candidate = weiszfeld_step(x, point) if iteration < 10 else _newton_step(x, point)
        new_value = _sum_of_distances(x, candidate)
        # On a line with a cluster the Hessian is singular and Newton stands still: no sign of an optimum.
        if new_value > value or torch.equal(candidate, point):
            candidate = weiszfeld_step(x, point)
            new_value = _sum_of_distances(x, candidate)
        step = float(torch.linalg.vector_norm(candidate - point))
        point, value = candidate, new_value
        if step <= tolerance * scale:
            break
    return point


def _sum_of_distances(x: Tensor, point: Tensor) -> float:
    return float(torch.linalg.vector_norm(x - point, dim=1).sum())


def _newton_step(x: Tensor, point: Tensor) -> Tensor:
    """One Newton step on f(x) = sum of distances; its Hessian is sum_k (I - u_k u_k^T) / d_k."""
    # Imported here only: `import fpgm_core` stays light.
    from scipy.sparse.linalg import LinearOperator, cg

    difference = (point - x).cpu().numpy()
    inverse = 1 / np.maximum(np.linalg.norm(difference, axis=1), np.finfo(np.float64).tiny)
    unit = difference * inverse[:, None]
    total = inverse.sum()

    def curvature(direction: np.ndarray) -> np.ndarray:
        return total * direction - unit.T @ (inverse * (unit @ direction))

    size = len(point)
    hessian = LinearOperator((size, size), matvec=curvature, dtype=np.float64)
    step, _ = cg(hessian, unit.sum(0), rtol=_SOLVED, maxiter=_CG_STEPS)
    return point - torch.from_numpy(step).to(point)
