"""From scores and a count to a keep mask: locks, ties, and the two-stage selectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from fpgm_core.criteria.criterion import Criterion, SelectionOptions, WeightScorer
from fpgm_core.criteria.rounding import check_rate, num_pruned
from fpgm_core.errors import FpgmError

__all__ = ["check_locks", "check_rate", "combined", "lowest", "num_pruned", "select", "unit_scores"]


def lowest(scores: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` lowest scores, lowest first; ties go to the lower index."""
    return np.argsort(scores, kind="stable")[:count]


def check_locks(
    n: int, count: int, *, locked_in: Sequence[int] = (), locked_out: Sequence[int] = (), where: str, blocks: int = 1
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


def unit_scores(
    score: WeightScorer, weights: Mapping[str, Tensor], *, options: SelectionOptions = SelectionOptions()
) -> np.ndarray:
    """One score a filter position for layers that share a selection, shape (N,), float64.

    `weights` maps each member's name to its filters (N, ...). A lone layer's scores are its own; for
    several, each layer's scores are divided by their mean and added. Raises FpgmError where a scorer does not give
    one finite number a filter.
    """
    return combined([_layer_scores(score, filters, name, options) for name, filters in weights.items()])


def _layer_scores(score: WeightScorer, filters: Tensor, layer: str, options: SelectionOptions) -> np.ndarray:
    scores = torch.as_tensor(score(filters, layer, options)).detach().to("cpu", torch.float64).numpy()
    if scores.shape != (len(filters),) or not np.isfinite(scores).all():
        raise FpgmError(f"the scores of {layer or 'these filters'} are not one finite number a filter")
    return scores


def combined(layer_scores: Sequence[np.ndarray]) -> np.ndarray:
    """One score a filter position from those of several layers, (N,) each: a lone layer's are its own."""
    if len(layer_scores) == 1:
        return layer_scores[0]
    return np.sum([scores / (scores.mean() or 1.0) for scores in layer_scores], axis=0)


def select(
    criterion: Criterion,
    weights: Mapping[str, Tensor],
    *,
    rate: float,
    options: SelectionOptions = SelectionOptions(),
    locked_in: Sequence[int] = (),
    locked_out: Sequence[int] = (),
    first_scores: np.ndarray | None = None,
    blocks: int = 1,
    copies: int = 1,
) -> np.ndarray:
    """The keep mask, bool (N,), True = kept, of one unit at `rate`.

    `weights` maps the unit's member layers to their filters (N, ...). The lowest scores are pruned,
    ties going to the lower index, equally many of each of `blocks` equal parts, and the same ones of each of `copies`
    equal parts, by the mean of their scores (locks must name all of them). Locked-out filters count
    towards the rate's count, locked-in ones are skipped. `first_scores` may carry the first stage's scores (N,)
    of all filters, computed before; a criterion that needs more than weights has to have them.

    Raises FpgmError for a rate outside 0..1 and for locks the count has no room for.
    """
    name = next(iter(weights))
    n = len(weights[name])
    counts = criterion.counts(n, rate, options=options, blocks=blocks)
    check_locks(n, sum(counts), locked_in=locked_in, locked_out=locked_out, where=name, blocks=blocks)
    spared, owed = (np.isin(np.arange(n), list(locks)) for locks in (locked_in, locked_out))
    keep = ~owed
    parts = [slice(begin, begin + n // blocks) for begin in range(0, n, n // blocks)]
    done = {part.start: int(owed[part].sum()) for part in parts}  # locked-out filters use up the earliest counts
    for stage, count in enumerate(counts):
        todo = {part.start: max(0, count - done[part.start]) for part in parts}
        done = {begin: max(0, already - count) for begin, already in done.items()}
        if not any(todo.values()):
            continue
        if stage == 0 and first_scores is not None:
            scores = first_scores
        else:
            scores = _stage_scores(criterion, stage, weights, keep=keep, options=options)
        scores = np.tile(scores.reshape(copies, -1).mean(0), copies)
        for part in parts:
            free = part.start + np.flatnonzero(keep[part] & ~spared[part])
            keep[free[lowest(scores[free], todo[part.start])]] = False
    return keep


def _stage_scores(
    criterion: Criterion, stage: int, weights: Mapping[str, Tensor], *, keep: np.ndarray, options: SelectionOptions
) -> np.ndarray:
    """A stage's scores (N,): of the original filters in the first, later of the survivors, others' meaning nothing."""
    score = criterion.stages[stage].score if criterion.stages else criterion.score
    if stage == 0:
        return unit_scores(score, weights, options=options)
    alive = np.flatnonzero(keep)
    survivors = {name: filters[torch.from_numpy(alive)] for name, filters in weights.items()}
    scores = np.full(len(keep), np.inf)
    scores[alive] = unit_scores(score, survivors, options=options)
    return scores
