"""How far choosing flatters: searches on random halves of the test images, each measured on the other half too.

What is searched on images looks better on those than on others. A suggestion without a search reads none, and cannot.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fpgm_core.allocation.goals import Goal
from fpgm_core.allocation.search import SearchConfig, search_work
from fpgm_core.allocation.suggestion import Prepared, SuggestConfig
from fpgm_core.data import ImageSet
from fpgm_core.evaluation import Interval, bootstrap_mean, kept_measure_work
from fpgm_core.runtime.progress import Progress, Work, run

HALVES = 50


@dataclass(frozen=True)
class Optimism:
    """By pair of halves, the change of accuracy against dense where it was chosen minus that on the other half."""

    gaps: tuple[float, ...]

    @property
    def mean(self) -> Interval:
        """The mean gap, a fraction, with the bootstrap's 95% interval over the pairs of halves."""
        return bootstrap_mean(np.array(self.gaps))


def optimism_work(
    prepared: Prepared,
    goal: Goal,
    images: ImageSet,
    training: ImageSet,
    *,
    halves: int = HALVES,
    search: SearchConfig = SearchConfig(),
    config: SuggestConfig = SuggestConfig(),
) -> Work[Optimism]:
    """Search on one half of `images`, measure on both, `halves` times; each Progress has the Optimism so far.

    The dense network's own gap between the halves is taken off. What was measured before is read from `FPGM_HOME`: with
    `search.trials`, a study that stopped goes on. Raises FpgmError as `search_work` does.
    """
    gaps = list[float]()
    for seed in range(halves):
        so_far = Optimism(tuple(gaps)) if gaps else None
        yield Progress(seed, halves, f"{seed} of {halves} pairs of halves", partial=so_far)
        chosen_on, other = images.halves(seed)
        work = search_work(prepared, goal, chosen_on, training, search=replace(search, seed=seed), config=config)
        best = run(work).best.pruned
        here, there = (
            run(kept_measure_work(best, half, method=search.method, training=training, config=config.evaluation))
            for half in (chosen_on, other)
        )
        gaps.append(here.change.value - there.change.value)
    return Optimism(tuple(gaps))
