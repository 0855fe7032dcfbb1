"""The lesson's toys: filters few and small enough to see, with everything about them computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import torch

from fpgm_core.criteria import CRITERIA, geometric_median, medoid, num_pruned, spearman, weiszfeld_step
from fpgm_core.criteria.selection import lowest
from fpgm_core.runtime.cores import each, split

Points = tuple[tuple[float, float], ...]
PLANES: Mapping[str, Points] = {
    # Three neighbours far from the origin, three small ones apart: norm and FPGM drop nothing in common.
    "apart": (
        (1.95, 1.6), (2.2, 0.95), (1.05, 1.6), (0.8, -0.65), (3.0, 2.5), (2.9, -0.4),
        (-0.1, 2.4), (-1.0, 1.0), (1.15, -1.45),
    ),
    # The same shape about the origin: the smallest are the most central.
    "around": (
        (0.25, 0.3), (0.6, -0.1), (-0.35, -0.4), (1.6, 0.9), (-1.5, 1.4), (-1.9, -0.8),
        (0.5, 2.2), (1.2, -1.9), (2.6, -0.6),
    ),
    # Two tight groups: the most central filters lie between them, alone.
    "groups": (
        (-2.6, 1.5), (-2.3, 1.8), (-2.8, 1.9), (2.4, 1.4), (2.7, 1.7), (2.5, 2.0),
        (0.1, 1.7), (-0.3, 1.2), (0.2, -2.5),
    ),
}  # fmt: skip
DROPPED = 3  # of the plane's filters
FOUR_POINTS: Points = ((0.0, 3.0), (2.0, 0.0), (1.0, 0.0), (1.0, 8.0))  # the median's neighbour is not the medoid
TOY_FILTERS = 64  # of the toy layer of norms
IDEAL_DEVIATION, IDEAL_SMALLEST = 0.2, 0.0
_CPU = torch.device("cpu")
_REACH = 2.5  # standard deviations on either side of a bell


def as_filters(points: Sequence[Sequence[float]]) -> torch.Tensor:
    """Points as filters, float64 (N, 2)."""
    return torch.tensor(points, dtype=torch.float64)


@dataclass(frozen=True, kw_only=True)
class PlaneFacts:
    """What is true of N points of the plane; filters are given by their indices.

    `by_norm` and `by_distance` are the filters that L2 norm and FPGM drop, the first to go first.
    """

    median: tuple[float, float]
    mean: tuple[float, float]
    medoid: int
    nearest: int
    norms: tuple[float, ...]
    sums: tuple[float, ...]
    by_norm: tuple[int, ...]
    by_distance: tuple[int, ...]

    @property
    def cut(self) -> float:
        """The norm below which the norm criterion drops: halfway between the largest dropped and the smallest kept."""
        ordered, count = sorted(self.norms), len(self.by_norm)
        return (ordered[count - 1] + ordered[count]) / 2

    @property
    def shared(self) -> int:
        """How many filters both criteria drop."""
        return len({*self.by_norm} & {*self.by_distance})


def plane_facts(points: Points, count: int = DROPPED) -> PlaneFacts:
    """The plane's median, mean and medoid, and the `count` filters each criterion drops."""
    x = as_filters(points)
    median = geometric_median(x)
    norms, sums = (CRITERIA[name].score(x).numpy() for name in ("l2_norm", "fpgm"))
    (median_x, median_y), (mean_x, mean_y) = median.point.tolist(), x.mean(0).tolist()
    return PlaneFacts(
        median=(median_x, median_y),
        mean=(mean_x, mean_y),
        medoid=medoid(x),
        nearest=median.nearest,
        norms=tuple(norms.tolist()),
        sums=tuple(sums.tolist()),
        by_norm=tuple(map(int, lowest(norms, count))),
        by_distance=tuple(map(int, lowest(sums, count))),
    )


@dataclass(frozen=True, eq=False)
class ToyNorms:
    """A toy layer's norms (TOY_FILTERS,), smallest first; `pruned` counts those that a rate prunes."""

    norms: np.ndarray
    pruned: int

    @property
    def cut(self) -> float:
        """The norm halfway between the largest pruned filter's and the smallest kept one's; 0 where none is pruned."""
        return float(self.norms[self.pruned - 1 : self.pruned + 1].mean()) if self.pruned else 0.0

    @property
    def ratio(self) -> float:
        """Mean norm of the pruned filters over that of the kept ones: near 0 where the norm tells them apart."""
        return float(self.norms[: self.pruned].mean() / self.norms[self.pruned :].mean()) if self.pruned else 0.0

    @property
    def spread(self) -> float:
        """Standard deviation over mean."""
        return float(self.norms.std() / self.norms.mean())

    @property
    def floor(self) -> float:
        """Smallest over mean."""
        return float(self.norms[0] / self.norms.mean())


def toy_norms(deviation: float, smallest: float, *, rate: float) -> ToyNorms:
    """Norms at evenly spaced quantiles of a normal curve of that deviation, from `smallest` up (paper, Fig. 2)."""
    shares = (np.arange(TOY_FILTERS) + 0.5) / TOY_FILTERS
    quantiles = np.array([NormalDist().inv_cdf(share) for share in shares])
    return ToyNorms(smallest + deviation * (quantiles - quantiles[0]), num_pruned(TOY_FILTERS, rate))


def bell_curve(deviation: float, smallest: float) -> tuple[np.ndarray, np.ndarray]:
    """The normal curve that `toy_norms` follows: norms and density, (121,) each, the highest density 1."""
    least = NormalDist().inv_cdf(0.5 / TOY_FILTERS)
    z = np.linspace(-_REACH, _REACH, 121)
    return smallest + deviation * (z - least), np.exp(-z * z / 2)


def weiszfeld_path(points: Points, start: tuple[float, float], *, steps: int) -> np.ndarray:
    """The points that Weiszfeld's iteration visits from `start`, (steps + 1, 2)."""
    x, path = as_filters(points), [torch.tensor(start, dtype=torch.float64)]
    for _ in range(steps):
        path.append(weiszfeld_step(x, path[-1]))
    return torch.stack(path).numpy()


def sum_of_distances(points: Sequence[Sequence[float]], *, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """f, the sum of distances to the points (Eq. 1 and 2), on a grid: (len(y), len(x))."""
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    return np.linalg.norm(grid[:, :, None] - np.array(points), axis=3).sum(2)


CROWD: Points = ((-0.9, 0.5), (-0.2, -0.8), (0.6, 0.9), (0.9, -0.4), (0.1, 0.3), (-0.6, -0.3))


def with_outlier(away: float) -> Points:
    """A small crowd, and one more filter at `away` to its right."""
    return (*CROWD, (away, 0.2))


def cloud(dimension: int, centre: float, *, seed: int, filters: int = 64) -> np.ndarray:
    """Filters (filters, dimension) scattered with radius 1 around a centre that lies `centre` from the origin."""
    rng = np.random.RandomState(seed)
    drawn = rng.standard_normal((filters, dimension)) / np.sqrt(dimension)
    drawn[:, 0] += centre
    return drawn


@dataclass(frozen=True)
class Agreement:
    """Rank correlation of norm and g over clouds: mean, least and greatest over `seeds` of them."""

    mean: float
    low: float
    high: float
    seeds: int


@lru_cache(maxsize=512)
def agreement(dimension: int, centre: float, *, seeds: int = 10) -> Agreement:
    """How far norm and FPGM agree on clouds of that dimension and centre."""
    correlations = [_rank_correlation(dimension, centre, seed=seed) for seed in range(seeds)]
    return Agreement(float(np.mean(correlations)), min(correlations), max(correlations), seeds)


def _rank_correlation(dimension: int, centre: float, *, seed: int) -> float:
    filters = torch.from_numpy(cloud(dimension, centre, seed=seed))
    rho = spearman(*(CRITERIA[name].score(filters).numpy() for name in ("l2_norm", "fpgm")))
    return 0.0 if rho is None else rho


def agreements(dimensions: Sequence[int], centres: Sequence[float]) -> dict[tuple[int, float], Agreement]:
    """`agreement` of every dimension with every centre, shared out among the cores."""
    cases = [(dimension, centre) for centre in centres for dimension in dimensions]
    return dict(zip(cases, each(lambda case: agreement(*case), cases, _CPU), strict=True))


@lru_cache(maxsize=4)
def count_differing_sets(sets: int = 400, *, filters: int = 8, seed: int = 0) -> int:
    """In how many random sets of points in the plane the one nearest the median is not the medoid."""
    drawn = np.random.RandomState(seed).standard_normal((sets, filters, 2))

    def count(piece: tuple[int, int]) -> int:
        points = torch.from_numpy(drawn[slice(*piece)])
        return sum(geometric_median(x).nearest != medoid(x) for x in points)

    return sum(each(count, split(0, sets, sets, _CPU), _CPU))
