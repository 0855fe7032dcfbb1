"""The lesson's toys: filters small enough to see, on which everything is computed and nothing projected."""

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
    # Three neighbours far from the origin, three lonely small ones: norm and FPGM drop nothing in common.
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
BELL = 64  # filters of the toy layer of norms
IDEAL_DEVIATION, IDEAL_SMALLEST = 0.2, 0.0
_CPU = torch.device("cpu")
_REACH = 2.5  # standard deviations on either side of a bell


def as_filters(points: Sequence[Sequence[float]]) -> torch.Tensor:
    """Points as filters, float64 (N, 2)."""
    return torch.tensor(points, dtype=torch.float64)


@dataclass(frozen=True)
class PlaneFacts:
    """What is true of N points of the plane: places, and indices of filters.

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
        """The radius inside which the norm drops: half way between the largest dropped and the smallest kept."""
        ordered, count = sorted(self.norms), len(self.by_norm)
        return (ordered[count - 1] + ordered[count]) / 2

    @property
    def shared(self) -> int:
        """How many of the filters that are dropped both criteria drop."""
        return len({*self.by_norm} & {*self.by_distance})


def plane_facts(points: Points, count: int = DROPPED) -> PlaneFacts:
    """The plane's median, mean and medoid, and the `count` filters each criterion drops."""
    x = as_filters(points)
    median = geometric_median(x)
    norms, sums = (CRITERIA[name].score(x).numpy() for name in ("l2_norm", "fpgm"))
    middle, mean = median.point.tolist(), x.mean(0).tolist()
    dropped = [tuple(map(int, lowest(scores, count))) for scores in (norms, sums)]
    return PlaneFacts(
        (middle[0], middle[1]),
        (mean[0], mean[1]),
        medoid(x),
        median.nearest,
        tuple(norms.tolist()),
        tuple(sums.tolist()),
        *dropped,
    )


@dataclass(frozen=True, eq=False)
class Bell:
    """A toy layer's norms (BELL,), smallest first, and where a rate's cut lies between them.

    `pruned` counts the filters below `cut`.
    """

    norms: np.ndarray
    pruned: int

    @property
    def cut(self) -> float:
        """The norm half way between the largest filter that is pruned and the smallest that is kept."""
        return float(self.norms[self.pruned - 1 : self.pruned + 1].mean()) if self.pruned else 0.0

    @property
    def ratio(self) -> float:
        """Mean norm of the pruned filters over the kept ones': near 0 where the norm tells them apart."""
        return float(self.norms[: self.pruned].mean() / self.norms[self.pruned :].mean()) if self.pruned else 0.0

    @property
    def spread(self) -> float:
        """Standard deviation over mean."""
        return float(self.norms.std() / self.norms.mean())

    @property
    def floor(self) -> float:
        """Smallest over mean."""
        return float(self.norms[0] / self.norms.mean())


def bell(deviation: float, smallest: float, rate: float) -> Bell:
    """Norms at the even quantiles of a normal curve of that deviation whose least is `smallest` (paper, Fig. 2)."""
    shares = (np.arange(BELL) + 0.5) / BELL
    quantiles = np.array([NormalDist().inv_cdf(share) for share in shares])
    return Bell(smallest + deviation * (quantiles - quantiles[0]), num_pruned(BELL, rate))


def bell_curve(deviation: float, smallest: float) -> tuple[np.ndarray, np.ndarray]:
    """The normal curve that `bell` takes its norms from: norms and density, (121,) each, the highest density 1."""
    least = NormalDist().inv_cdf(0.5 / BELL)
    z = np.linspace(-_REACH, _REACH, 121)
    return smallest + deviation * (z - least), np.exp(-z * z / 2)


def walk(points: Points, start: tuple[float, float], steps: int) -> np.ndarray:
    """Weiszfeld's iteration from `start`: the places it visits, (steps + 1, 2)."""
    x, here = as_filters(points), torch.tensor(start, dtype=torch.float64)
    places = [here]
    for _ in range(steps):
        here = weiszfeld_step(x, here)
        places.append(here)
    return torch.stack(places).numpy()


def height(points: Sequence[Sequence[float]], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """f, the sum of distances to the points, on a grid: (len(y), len(x))."""
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    return np.linalg.norm(grid[:, :, None] - np.array(points), axis=3).sum(2)


CROWD: Points = ((-0.9, 0.5), (-0.2, -0.8), (0.6, 0.9), (0.9, -0.4), (0.1, 0.3), (-0.6, -0.3))


def with_outlier(away: float) -> Points:
    """A small crowd, and one filter more that lies `away` to its right."""
    return (*CROWD, (away, 0.2))


def cloud(dimension: int, centre: float, seed: int, filters: int = 64) -> np.ndarray:
    """Filters drawn about a centre, (filters, dimension): their scatter has radius 1, the centre lies so far from 0."""
    rng = np.random.RandomState(seed)
    drawn = rng.standard_normal((filters, dimension)) / np.sqrt(dimension)
    drawn[:, 0] += centre
    return drawn


@dataclass(frozen=True)
class Agreement:
    """Rank correlation of norm and g over clouds: the mean of `seeds` of them, and the least and the greatest."""

    mean: float
    low: float
    high: float
    seeds: int


@lru_cache(maxsize=512)
def agreement(dimension: int, centre: float, seeds: int = 10) -> Agreement:
    """How norm and FPGM agree on clouds of that dimension and centre."""
    found = [_rank_correlation(dimension, centre, seed) for seed in range(seeds)]
    return Agreement(float(np.mean(found)), min(found), max(found), seeds)


def _rank_correlation(dimension: int, centre: float, seed: int) -> float:
    filters = torch.from_numpy(cloud(dimension, centre, seed))
    rho = spearman(*(CRITERIA[name].score(filters).numpy() for name in ("l2_norm", "fpgm")))
    return 0.0 if rho is None else rho


def agreements(dimensions: Sequence[int], centres: Sequence[float]) -> dict[tuple[int, float], Agreement]:
    """`agreement` for every dimension with every centre: many small problems, so a core each."""
    cases = [(dimension, centre) for centre in centres for dimension in dimensions]
    return dict(zip(cases, each(lambda case: agreement(*case), cases, _CPU), strict=True))


@lru_cache(maxsize=4)
def how_often_they_differ(sets: int = 400, filters: int = 8, seed: int = 0) -> int:
    """In how many of so many random plane sets the filter nearest the median is not the medoid."""
    drawn = np.random.RandomState(seed).standard_normal((sets, filters, 2))

    def count(piece: tuple[int, int]) -> int:
        return sum(geometric_median(one).nearest != medoid(one) for one in torch.from_numpy(drawn[slice(*piece)]))

    return sum(each(count, split(0, sets, sets, _CPU), _CPU))
