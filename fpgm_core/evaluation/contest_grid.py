"""Criteria over a grid of goals: a contest at each, streamed; what was measured before is read."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from fpgm_core.data import ImageSet
from fpgm_core.errors import FpgmError
from fpgm_core.evaluation.accuracy import EvaluationConfig
from fpgm_core.evaluation.contest import ContestConfig, contest_work, equal_plan
from fpgm_core.evaluation.contest_results import RANDOM, Contest
from fpgm_core.evaluation.intervals import Interval
from fpgm_core.pruning import Network
from fpgm_core.runtime.progress import Progress, Work, within

GOALS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)  # shares of the MACs to cut


@dataclass(frozen=True, eq=False)
class ContestGrid:
    """Contests at rising goals, the last perhaps unfinished, of `total`; `dense_macs` are the dense network's."""

    contests: tuple[Contest, ...]
    total: int
    dense_macs: int

    def points(self, criterion: str, rung: str) -> tuple[tuple[float, Interval], ...]:
        """A criterion's MACs cut, 0..1, and accuracy at every goal that it was measured at."""
        return tuple(
            (1 - entry.macs / self.dense_macs, contest.accuracy(entry, rung))
            for contest in self.contests
            for entry in contest.entries
            if entry.criterion == criterion
        )

    def control(self, rung: str) -> tuple[tuple[float, tuple[float, ...]], ...]:
        """The random draws: at every goal their mean MACs cut, 0..1, and each one's accuracy."""
        found = []
        for contest in self.contests:
            if contest.random:
                macs = sum(entry.macs for entry in contest.random) / len(contest.random)
                accuracies = tuple(entry.correct(rung) / contest.images for entry in contest.random)
                found.append((1 - macs / self.dense_macs, accuracies))
        return tuple(found)


def rate_for(network: Network, cut: float, coupling: str) -> float:
    """The smallest rate in whole percent, the same for every unit, that cuts at least a share of the MACs.

    Of random draws: which filters go matters little, and not at all under `inner` and `coupled`. Raises FpgmError
    where no rate does.
    """
    most = (1 - cut) * network.dense_cost.macs
    for percent in range(1, 100):
        try:
            if network.cost(equal_plan(network, RANDOM, percent / 100, coupling)).macs <= most:
                return percent / 100
        except FpgmError:  # nothing is left at all
            break
    raise FpgmError(f"one rate for all cannot cut {cut:.0%} of the MACs under coupling {coupling}; ask for less")


def contest_grid_work(
    network: Network,
    images: ImageSet,
    training: ImageSet,
    *,
    goals: Sequence[float] = GOALS,
    rules: ContestConfig = ContestConfig(),
    config: EvaluationConfig = EvaluationConfig(),
    use_cache: bool = True,
) -> Work[ContestGrid]:
    """A contest by `rules` at each goal, a share of the MACs to cut; their rate is that of the goal.

    Each Progress has the ContestGrid so far; stop iterating to stop. Finished contests are kept, see `contest_work`. A
    goal that no rate meets is left out. Raises FpgmError as `contest_work` does.
    """
    done: list[Contest] = []
    for place, goal in enumerate(sorted(set(goals))):
        try:
            rate = rate_for(network, goal, rules.coupling)
        except FpgmError:
            continue
        work = within(
            contest_work(
                network, images, training, rules=replace(rules, rate=rate), config=config, use_cache=use_cache
            ),
            place / len(goals),
            (place + 1) / len(goals),
        )
        with closing(work):
            while True:
                try:
                    progress = next(work)
                except StopIteration as end:
                    done.append(end.value)
                    break
                yield _told(progress, goal, done, len(goals), network)
    return ContestGrid(tuple(done), len(goals), network.dense_cost.macs)


def _told(progress: Progress, goal: float, done: Sequence[Contest], total: int, network: Network) -> Progress:
    """A step of one contest as a step of the grid."""
    unfinished = (progress.partial,) if isinstance(progress.partial, Contest) else ()
    so_far = ContestGrid((*done, *unfinished), total, network.dense_cost.macs)
    return replace(progress, what=f"{goal:.0%} cut: {progress.what}", partial=so_far)
