"""The criteria: registry records that turn a layer's weights into scores, and select what to prune."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fpgm_core.criteria import geometry
from fpgm_core.criteria.selection import check_locks, lowest, num_pruned
from fpgm_core.errors import FpgmError


@dataclass(frozen=True)
class SelectionOptions:
    """What a selection can be told beside its rate.

    `seed` is the random control's; `mix_share` the part of the rate that fpgm_mix prunes by norm (paper:
    10% of 40%, a quarter). `round_to` rounds the number of filters kept up to a multiple, as far as there
    are filters: hardware likes 8, 16 or 32. 1 leaves the count as the rate says.
    """

    seed: int = 0
    mix_share: float = 0.25
    round_to: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed < 2**32:
            raise FpgmError(f"seed {self.seed!r} is not a whole number from 0 to 4294967295")
        share = self.mix_share
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
            raise FpgmError(f"mix_share {share!r} is not a fraction from 0 to 1")
        multiple = self.round_to
        if isinstance(multiple, bool) or not isinstance(multiple, int) or not 1 <= multiple <= 1024:
            raise FpgmError(f"round_to {multiple!r} is not a whole number from 1 to 1024")


# A score function maps one layer's filters (N, ...), its name and the options to (N,) float64, higher = more important.
Score = Callable[[Tensor, str, SelectionOptions], Tensor]


@dataclass(frozen=True)
class Criterion:
    """One way to choose filters.

    `stages` are score functions with the share of the rate each one prunes; a later stage scores only
    the survivors of the earlier ones. Plain criteria have one stage. `options` names the fields of
    `SelectionOptions` it reads. `needs` says what scores are made from: a layer's "weights", which is all that the score
    functions see, or "norms", "moments" or "gradients" of the network, whose scores are made elsewhere (in `repair`)
    and handed to whoever selects.
    """

    name: str
    title: str
    summary: str
    assumes: str
    source: str
    stages: tuple[tuple[Score, Callable[[SelectionOptions], float]], ...]
    options: tuple[str, ...] = ()
    needs: str = "weights"

    def score(self, filters: Tensor, layer: str = "", options: SelectionOptions = SelectionOptions()) -> Tensor:
        """Scores (N,) float64 of filters (N, ...), higher = more important; a staged criterion's last stage."""
        return self.stages[-1][0](filters, layer, options)

    def counts(
        self, n: int, rate: float, options: SelectionOptions = SelectionOptions(), blocks: int = 1
    ) -> tuple[int, ...]:
        """How many filters each stage prunes of every one of `blocks` equal parts of `n` filters."""
        size, counts = n // blocks, list[int]()
        for _, share in self.stages:
            counts.append(min(num_pruned(size, rate * share(options)), size - 1 - sum(counts)))
        multiple = options.round_to // math.gcd(options.round_to, blocks)
        kept = size - sum(counts)
        surplus = min(size, -(-kept // multiple) * multiple) - kept
        for stage in reversed(range(len(counts))):  # the last stages give way first
            spared = min(counts[stage], surplus)
            counts[stage], surplus = counts[stage] - spared, surplus - spared
        return tuple(counts)

    def count(self, n: int, rate: float, options: SelectionOptions = SelectionOptions(), blocks: int = 1) -> int:
        """How many of `n` filters are pruned at `rate`, all stages and blocks together."""
        return blocks * sum(self.counts(n, rate, options, blocks))


def _l1_norm(filters: Tensor, layer: str, options: SelectionOptions) -> Tensor:
    return filters.detach().to(torch.float64).flatten(1).abs().sum(1)


def _l2_norm(filters: Tensor, layer: str, options: SelectionOptions) -> Tensor:
    return torch.linalg.vector_norm(filters.detach().to(torch.float64).flatten(1), dim=1)


def _fpgm(filters: Tensor, layer: str, options: SelectionOptions) -> Tensor:
    return geometry.distance_sums(filters)


def _fpgm_l1(filters: Tensor, layer: str, options: SelectionOptions) -> Tensor:
    return geometry.manhattan_sums(filters)


def _fpgm_cosine(filters: Tensor, layer: str, options: SelectionOptions) -> Tensor:
    return geometry.cosine_sums(filters)


def _fpgm_exact(filters: Tensor, layer: str, options: SelectionOptions) -> Tensor:
    return geometry.geometric_median(filters).distances


def _random(filters: Tensor, layer: str, options: SelectionOptions) -> Tensor:
    # RandomState's stream is frozen by NumPy, so a seed in a plan means the same filters everywhere.
    rng = np.random.RandomState([options.seed, zlib.crc32(layer.encode())])
    return torch.from_numpy(rng.random_sample(len(filters)))


def _whole(options: SelectionOptions) -> float:
    return 1.0


def _plain(score: Score) -> tuple[tuple[Score, Callable[[SelectionOptions], float]], ...]:
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


def _handed_in(name: str) -> tuple[tuple[Score, Callable[[SelectionOptions], float]], ...]:
    def refuse(filters: Tensor, layer: str, options: SelectionOptions) -> Tensor:
        raise FpgmError(
            f"{name} cannot be read off {layer or 'filters'} alone: its scores are made from the whole network; "
            f"call fpgm_core.recovery.provide first, or choose one of {', '.join(CRITERIA)}"
        )

    return _plain(refuse)


_DATA_RECORDS = (
    Criterion(
        "refit_cost",
        "Refit cost",
        "Prunes the filters that the others can best stand in for, once those who read them are refitted.",
        "each filter goes alone, and its consumers are refitted by least squares",
        "Hassibi and Stork, Optimal Brain Surgeon, NIPS 1992, in blocks: tr(W_i [(G^-1)_ii]^-1 W_i^T)",
        _handed_in("refit_cost"),
        needs="moments",
    ),
    Criterion(
        "refit_cost_greedy",
        "Refit cost, greedy",
        "Refit cost, one filter after the other: the rest are scored anew as each one goes.",
        "the cheapest next filter is part of the cheapest set",
        "Optimal Brain Surgeon in blocks; moments updated by Schur complements",
        _handed_in("refit_cost_greedy"),
        needs="moments",
    ),
    Criterion(
        "bn_scale",
        "Norm's scale",
        "Prunes the filters whose batch normalisation scales them least.",
        "a channel that is scaled down says little",
        "Liu et al., Network Slimming, ICCV 2017",
        _handed_in("bn_scale"),
        needs="norms",
    ),
    Criterion(
        "taylor",
        "Taylor, first order",
        "Prunes the filters whose removal changes the loss least, to first order.",
        "the loss is linear in each filter, all the way to zero",
        "Molchanov et al., Importance Estimation for Neural Network Pruning, CVPR 2019, Eq. 8",
        _handed_in("taylor"),
        needs="gradients",
    ),
)
DATA_CRITERIA: Mapping[str, Criterion] = {record.name: record for record in _DATA_RECORDS}


def get_criterion(name: str) -> Criterion:
    """The criterion called `name`. Raises FpgmError, listing the names, where there is none."""
    found = CRITERIA.get(name) or DATA_CRITERIA.get(name)
    if found is None:
        raise FpgmError(f"unknown criterion {name!r}; choose one of {', '.join((*CRITERIA, *DATA_CRITERIA))}")
    return found


def unit_scores(score: Score, weights: Mapping[str, Tensor], options: SelectionOptions) -> np.ndarray:
    """One score a filter position for layers that share a selection, shape (N,), float64.

    `weights` maps each member's name to its filters (N, ...). A lone layer's scores are its own; for
    several, each layer's scores are divided by their mean and added.
    """
    return combined([score(filters, name, options).cpu().numpy() for name, filters in weights.items()])


def combined(each: Sequence[np.ndarray]) -> np.ndarray:
    """One score a filter position from those of several layers, (N,) each: a lone layer's are its own."""
    if len(each) == 1:
        return each[0]
    return np.sum([values / (values.mean() or 1.0) for values in each], axis=0)


def select(
    criterion: Criterion,
    weights: Mapping[str, Tensor],
    rate: float,
    options: SelectionOptions = SelectionOptions(),
    locked_in: Sequence[int] = (),
    locked_out: Sequence[int] = (),
    first_scores: np.ndarray | None = None,
    blocks: int = 1,
) -> np.ndarray:
    """The keep mask, bool (N,), True = kept, of one unit at `rate`.

    `weights` maps the unit's member layers to their filters (N, ...). The lowest scores are pruned,
    ties going to the lower index, equally many of each of `blocks` equal parts. Locked-out filters count
    towards the rate's count, locked-in ones are skipped. `first_scores` may carry the first stage's scores
    of all filters, computed before.

    Raises FpgmError for a rate outside 0..1 and for locks the count has no room for.
    """
    name = next(iter(weights))
    n = len(weights[name])
    counts = criterion.counts(n, rate, options, blocks)
    check_locks(n, sum(counts), locked_in, locked_out, name, blocks)
    spared, owed = (np.isin(np.arange(n), list(locks)) for locks in (locked_in, locked_out))
    keep = ~owed
    parts = [slice(begin, begin + n // blocks) for begin in range(0, n, n // blocks)]
    done = {part.start: int(owed[part].sum()) for part in parts}  # locked-out filters use up the earliest counts
    for stage, ((score, _), count) in enumerate(zip(criterion.stages, counts, strict=True)):
        todo = {part.start: max(0, count - done[part.start]) for part in parts}
        done = {begin: max(0, already - count) for begin, already in done.items()}
        if not any(todo.values()):
            continue
        if stage == 0:  # on the original filters; later stages on the survivors
            scores = unit_scores(score, weights, options) if first_scores is None else first_scores
        else:
            scores = _scores_among(keep, score, weights, options)
        for part in parts:
            free = part.start + np.flatnonzero(keep[part] & ~spared[part])
            keep[free[lowest(scores[free], todo[part.start])]] = False
    return keep


def _scores_among(
    keep: np.ndarray, score: Score, weights: Mapping[str, Tensor], options: SelectionOptions
) -> np.ndarray:
    """Scores (N,) in which only the survivors count; those of the others mean nothing."""
    alive = np.flatnonzero(keep)
    scores = np.full(len(keep), np.inf)
    scores[alive] = unit_scores(score, {name: w[torch.from_numpy(alive)] for name, w in weights.items()}, options)
    return scores
