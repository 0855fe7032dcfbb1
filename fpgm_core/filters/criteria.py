"""The criteria: registry records that turn a layer's weights into scores, and select what to prune."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fpgm_core.errors import FpgmError
from fpgm_core.filters import geometry
from fpgm_core.filters.selection import check_locks, lowest, num_pruned


@dataclass(frozen=True)
class Options:
    """What some criteria can be told: `seed` of the random control; `mix_share`, the part of the rate
    that fpgm_mix prunes by norm (paper: 10% of 40%, a quarter)."""

    seed: int = 0
    mix_share: float = 0.25

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed < 2**32:
            raise FpgmError(f"seed {self.seed!r} is not a whole number from 0 to 4294967295")
        share = self.mix_share
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
            raise FpgmError(f"mix_share {share!r} is not a fraction from 0 to 1")


# A score function maps one layer's filters (N, ...), its name and the options to (N,) float64, higher = more important.
Score = Callable[[Tensor, str, Options], Tensor]


@dataclass(frozen=True)
class Criterion:
    """One way to choose filters.

    `stages` are score functions with the share of the rate each one prunes; a later stage scores only
    the survivors of the earlier ones. Plain criteria have one stage. `options` names the fields of
    `Options` it reads.
    """

    name: str
    title: str
    summary: str
    assumes: str
    source: str
    stages: tuple[tuple[Score, Callable[[Options], float]], ...]
    options: tuple[str, ...] = ()

    def score(self, filters: Tensor, layer: str = "", options: Options = Options()) -> Tensor:
        """Scores (N,) float64 of filters (N, ...), higher = more important; a staged criterion's last stage."""
        return self.stages[-1][0](filters, layer, options)

    def counts(self, n: int, rate: float, options: Options = Options()) -> tuple[int, ...]:
        """How many of `n` filters each stage prunes at `rate`."""
        counts: list[int] = []
        for _, share in self.stages:
            counts.append(min(num_pruned(n, rate * share(options)), n - 1 - sum(counts)))
        return tuple(counts)

    def count(self, n: int, rate: float, options: Options = Options()) -> int:
        """How many of `n` filters are pruned at `rate`, all stages together."""
        return sum(self.counts(n, rate, options))


def _l1_norm(filters: Tensor, layer: str, options: Options) -> Tensor:
    return filters.detach().to(torch.float64).flatten(1).abs().sum(1)


def _l2_norm(filters: Tensor, layer: str, options: Options) -> Tensor:
    return torch.linalg.vector_norm(filters.detach().to(torch.float64).flatten(1), dim=1)


def _fpgm(filters: Tensor, layer: str, options: Options) -> Tensor:
    return geometry.distance_sums(filters)


def _fpgm_l1(filters: Tensor, layer: str, options: Options) -> Tensor:
    return geometry.manhattan_sums(filters)


def _fpgm_cosine(filters: Tensor, layer: str, options: Options) -> Tensor:
    return geometry.cosine_sums(filters)


def _fpgm_exact(filters: Tensor, layer: str, options: Options) -> Tensor:
    return geometry.geometric_median(filters).distances


def _random(filters: Tensor, layer: str, options: Options) -> Tensor:
    # RandomState's stream is frozen by NumPy, so a seed in a plan means the same filters everywhere.
    rng = np.random.RandomState([options.seed, zlib.crc32(layer.encode())])
    return torch.from_numpy(rng.random_sample(len(filters)))


def _whole(options: Options) -> float:
    return 1.0


def _plain(score: Score) -> tuple[tuple[Score, Callable[[Options], float]], ...]:
    return ((score, _whole),)


_RECORDS = (
    Criterion(
        "l1_norm",
        "L1 norm",
        "Prunes the filters whose absolute weights sum to the least.",
        "a smaller norm means a less important filter",
        "Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017",
        _plain(_l1_norm),
    ),
    Criterion(
        "l2_norm",
        "L2 norm",
        "Prunes the filters of the smallest Euclidean norm.",
        "a smaller norm means a less important filter",
        "He et al., Soft Filter Pruning, IJCAI 2018; FPGM paper, section 3.2",
        _plain(_l2_norm),
    ),
    Criterion(
        "fpgm",
        "FPGM",
        "Prunes the filters with the smallest sum of distances to the others, nearest the layer's centre.",
        "the others can stand in for a filter in their midst",
        "He et al., Filter Pruning via Geometric Median, CVPR 2019, Eq. 4",
        _plain(_fpgm),
    ),
    Criterion(
        "fpgm_l1",
        "FPGM, L1 distance",
        "FPGM with distances that add absolute differences.",
        "the others can stand in for a filter in their midst",
        "FPGM paper, section 4.4 (choice of distance)",
        _plain(_fpgm_l1),
    ),
    Criterion(
        "fpgm_cosine",
        "FPGM, cosine distance",
        "FPGM with distances between directions: lengths do not count.",
        "filters of similar direction can stand in for each other",
        "FPGM paper, section 4.4 (choice of distance)",
        _plain(_fpgm_cosine),
    ),
    Criterion(
        "fpgm_exact",
        "Distance to the exact median",
        "Prunes the filters nearest the layer's geometric median itself.",
        "the others can stand in for a filter near the median",
        "FPGM paper, Eq. 3; median by Weiszfeld with Vardi and Zhang's step",
        _plain(_fpgm_exact),
    ),
    Criterion(
        "fpgm_mix",
        "FPGM mix",
        "Prunes a share of the rate by L2 norm first, then the rest by FPGM among the survivors.",
        "small filters are unimportant, and of the rest the central ones replaceable",
        "FPGM paper, section 4.1: 40% is 10% by norm and 30% by distance",
        ((_l2_norm, lambda options: options.mix_share), (_fpgm, lambda options: 1 - options.mix_share)),
        ("mix_share",),
    ),
    Criterion(
        "random",
        "Random (control)",
        "Prunes filters drawn by a seed: what any criterion has to beat.",
        "nothing",
        "the control every comparison needs",
        _plain(_random),
        ("seed",),
    ),
)
CRITERIA: Mapping[str, Criterion] = {record.name: record for record in _RECORDS}


def get_criterion(name: str) -> Criterion:
    """The criterion called `name`. Raises FpgmError, listing the names, where there is none."""
    if name not in CRITERIA:
        raise FpgmError(f"unknown criterion {name!r}; choose one of {', '.join(CRITERIA)}")
    return CRITERIA[name]


def unit_scores(score: Score, weights: Mapping[str, Tensor], options: Options) -> np.ndarray:
    """One score a filter position for layers that share a selection, shape (N,), float64.

    `weights` maps each member's name to its filters (N, ...). A lone layer's scores are its own; for
    several, each layer's scores are divided by their mean and added.
    """
    each = [score(filters, name, options).cpu().numpy() for name, filters in weights.items()]
    if len(each) == 1:
        return each[0]
    return np.sum([values / (values.mean() or 1.0) for values in each], axis=0)


def select(
    criterion: Criterion,
    weights: Mapping[str, Tensor],
    rate: float,
    options: Options = Options(),
    locked_in: Sequence[int] = (),
    locked_out: Sequence[int] = (),
    first_scores: np.ndarray | None = None,
) -> np.ndarray:
    """The keep mask, bool (N,), True = kept, of one unit at `rate`.

    `weights` maps the unit's member layers to their filters (N, ...). The lowest scores are pruned,
    ties going to the lower index. Locked-out filters count towards the rate's count, locked-in ones
    are skipped. `first_scores` may carry the first stage's scores of all filters, computed before.

    Raises FpgmError for a rate outside 0..1 and for locks the count has no room for.
    """
    name = next(iter(weights))
    n = len(weights[name])
    counts = criterion.counts(n, rate, options)
    check_locks(n, sum(counts), locked_in, locked_out, name)
    keep = np.ones(n, dtype=bool)
    owed = sorted(set(locked_out))
    keep[owed] = False
    for stage, ((score, _), count) in enumerate(zip(criterion.stages, counts, strict=True)):
        spent = min(len(owed), count)  # locked-out filters use up the earliest stages' counts
        owed = owed[spent:]
        if count == spent:
            continue
        alive = np.flatnonzero(keep)
        if stage == 0:  # on the original filters; later stages on the survivors
            scores = unit_scores(score, weights, options) if first_scores is None else first_scores
            scores = scores[alive]
        else:
            scores = unit_scores(score, {key: w[torch.from_numpy(alive)] for key, w in weights.items()}, options)
        free = ~np.isin(alive, list(locked_in))
        keep[alive[free][lowest(scores[free], count - spent)]] = False
    return keep
