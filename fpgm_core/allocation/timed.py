"""A goal of milliseconds put to the test: the plan is timed, the prediction set right by that, and solved again.

A solver looks for the plans that a prediction flatters or wrongs, so that the plan found is off by more than plans are
on average. Near one plan that is one factor, which a single measurement tells.
"""

from __future__ import annotations

from dataclasses import dataclass

from fpgm_core.allocation.goals import Goal, register_cost
from fpgm_core.allocation.milliseconds import NAME, milliseconds
from fpgm_core.allocation.suggestion import Prepared, SuggestConfig, Suggestion, suggestion_of
from fpgm_core.errors import FpgmError
from fpgm_core.evaluation import Interval
from fpgm_core.pruning import PrunedNetwork
from fpgm_core.runtime.progress import Progress, Work, within
from fpgm_core.timing import Predictor, Target, TimingConfig
from fpgm_core.timing.probing import WHOLE, timed_work

ROUNDS = 2  # of setting right and solving again
NEAR = 0.02  # of the dense network's time: what is so near to the goal is taken


@dataclass(frozen=True, eq=False)
class Tried:
    """A suggestion that was timed: `cut` is the share of the dense network's milliseconds that went, measured."""

    suggestion: Suggestion
    cut: Interval
    busy: bool


@dataclass(frozen=True, eq=False)
class TimedSuggestion:
    """The plans that were timed for a goal, in their order; `best` is the one whose cut is nearest to what was asked.

    `predictor` is set right by all of them.
    """

    tried: tuple[Tried, ...]
    asked: float
    predictor: Predictor

    @property
    def best(self) -> Tried:
        """The nearest to the goal."""
        return min(self.tried, key=self.off)

    def off(self, one: Tried) -> float:
        """How far a plan is from the goal, a share of the dense network's time."""
        return abs(one.cut.value - self.asked)


def timed_suggestion_work(
    prepared: Prepared,
    goal: Goal,
    predictor: Predictor,
    target: Target,
    *,
    config: SuggestConfig = SuggestConfig(),
    timing: TimingConfig = WHOLE,
) -> Work[TimedSuggestion]:
    """Solve for a goal of milliseconds, time the plan beside the dense network, and solve again where it misses.

    Whoever asks for costs finds the corrected measure afterwards: it is registered as "ms". Raises FpgmError for a goal
    without "ms", one that cannot be met, and a target whose runtime is not available.
    """
    if NAME not in goal.cuts:
        raise FpgmError("there are no milliseconds in this goal; name a share of them to cut")
    tried, asked = list[Tried](), goal.cuts[NAME]
    for number in range(ROUNDS + 1):
        yield Progress(number, ROUNDS + 1, "solving" if not number else "solving again, set right by what was timed")
        register_cost(milliseconds(predictor))
        try:
            suggestion = suggestion_of(prepared, goal, config)
        except FpgmError:
            if not tried:
                raise
            break  # what is asked for is more than can go, by what was measured
        begin, end = (number + 0.2) / (ROUNDS + 1), (number + 1) / (ROUNDS + 1)
        one = yield from within(_timed_work(suggestion, target, timing), begin, end, "timing the plan")
        predictor = corrected(predictor, suggestion.pruned, 1 - one.cut.value)
        tried.append(one)
        if abs(one.cut.value - asked) <= NEAR:
            break
    register_cost(milliseconds(predictor))
    return TimedSuggestion(tuple(tried), asked, predictor)


def corrected(predictor: Predictor, pruned: PrunedNetwork, share: float) -> Predictor:
    """A predictor in whose eyes a pruned network takes what was measured: a share of the dense network's time."""
    return predictor.scaled(share * predictor.dense.value / predictor.ms(pruned).value)


def _timed_work(suggestion: Suggestion, target: Target, timing: TimingConfig) -> Work[Tried]:
    pruned = suggestion.pruned
    timed = yield from timed_work([pruned.network.prune(0.0), pruned], target, timing)
    value, low, high = timed.ms[1] / timed.ms[0, 0]
    return Tried(suggestion, Interval(1 - value, 1 - high, 1 - low), timed.busy)
