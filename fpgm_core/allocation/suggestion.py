"""A goal in, a plan out, with its reasons: nothing is trained, and of test images only the choose half may be read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from fpgm_core.allocation.allocators import allocated, get_allocator
from fpgm_core.allocation.choices import Choices
from fpgm_core.allocation.goals import COSTS, Goal
from fpgm_core.allocation.losses import Losses, losses_work
from fpgm_core.allocation.prices import Price, bargain, dearest, prices
from fpgm_core.criteria import score_work
from fpgm_core.data import ImageSet
from fpgm_core.errors import FpgmError
from fpgm_core.evaluation import EvaluationConfig, Measurement, check_loss, measure_work
from fpgm_core.pruning import Network, Plan, PrunedNetwork
from fpgm_core.recovery import RecoveryContext
from fpgm_core.runtime.device import choose_device, choose_precision
from fpgm_core.runtime.progress import Progress, Work, behind, run, within

LOSS = "blend"
COUPLING = "coupled"  # where a cut is worth most milliseconds
_BISECTIONS = 7  # of the MACs cut: to under a hundredth


@dataclass(frozen=True, eq=False)
class Suggestion:
    """A plan that meets a goal, and why its rates are what they are.

    `pruned` is the network under the plan, `reached` the shares cut by exact costs, by name. `predicted` is the summed
    predicted loss, `prices` each unit's, in the first of the goal's costs; 0 and empty for an allocator that reads no
    losses. `measurement` is on the choose half, where one was made.
    """

    pruned: PrunedNetwork
    goal: Goal
    allocator: str
    losses: Losses | None
    prices: tuple[Price, ...]
    measurement: Measurement | None = None

    @property
    def plan(self) -> Plan:
        """What to prune."""
        return self.pruned.plan

    @property
    def reached(self) -> dict[str, float]:
        """The share of each of the goal's costs that is cut."""
        return self.goal.reached(self.pruned)

    @property
    def predicted(self) -> float:
        """The summed predicted loss; 0 where none was predicted."""
        return sum(price.loss for price in self.prices)

    @property
    def reason(self) -> str:
        """In a sentence, where saving more would cost least and most; empty where no losses were predicted."""
        cheap, dear = bargain(self.prices), dearest(self.prices)
        if cheap is None or dear is None:
            return ""
        what = COSTS[next(iter(self.goal.cuts))].title
        return (
            f"The bargain is {cheap.unit}: a million more {what} saved there cost {cheap.next_price:.2g} of predicted "
            f"loss; the dearest is {dear.unit}, where they cost {dear.next_price:.2g}."
        )

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data."""
        measured = self.measurement
        return {
            "plan": self.plan.to_dict(),
            "goal": dict(self.goal.cuts),
            "reached": self.reached,
            "allocator": self.allocator,
            "loss": self.losses.name if self.losses is not None else None,
            "predicted": self.predicted,
            "reason": self.reason,
            "prices": [
                {**asdict(price), "next_price": price.next_price, "last_price": price.last_price}
                for price in self.prices
            ],
            "accuracy": asdict(measured.accuracy) if measured is not None else None,
            "change": asdict(measured.change) if measured is not None else None,
            "rung": measured.method if measured is not None else None,
        }


@dataclass(frozen=True)
class SuggestConfig:
    """How to suggest: see `ALLOCATORS` and `LOSSES`. `fixed` units stay at the plan's rates; `seed` is of `random`."""

    allocator: str = "solved"
    loss: str = LOSS
    fixed: Collection[str] = ()
    seed: int = 0
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)


def suggest_work(
    network: Network,
    images: ImageSet,
    goal: Goal,
    *,
    like: Plan | None = None,
    config: SuggestConfig = SuggestConfig(),
) -> Work[Suggestion]:
    """A plan that meets a goal at the least predicted loss, from training `images`.

    `like` says criterion, coupling, options and locks (fpgm, coupled); its rates count where units are fixed. Raises
    FpgmError for a goal that cannot be met, and as `losses_work` and `score_work` do.
    """
    prepared = yield from prepared_work(network, images, like=like, config=config)
    return suggestion_of(prepared, goal, config)


@dataclass(frozen=True, eq=False)
class Prepared:
    """What solving reads: the choices, and the predicted losses where they are needed. Any goal follows fast."""

    choices: Choices
    losses: Losses | None


def prepared_work(
    network: Network, images: ImageSet, *, like: Plan | None = None, config: SuggestConfig = SuggestConfig()
) -> Work[Prepared]:
    """The slow part of suggesting, the same for every goal: scores where the criterion needs them, and losses."""
    like = like or network.plan(coupling=COUPLING)
    needs_losses = get_allocator(config.allocator).needs_losses
    device = choose_device(config.evaluation.device)
    if not network.has_scores(like.criterion):
        work = score_work(network, like.criterion, images, device=device)
        network = network.with_scores(like.criterion, (yield from within(work, 0, 0.4, f"scoring by {like.criterion}")))
    choices = Choices.of(network, like, fixed=config.fixed)
    if not choices.units:
        raise FpgmError(f"coupling {like.coupling} has no units in {network.name}; choose another")
    if not needs_losses:
        return Prepared(choices, None)
    if not network.trained:
        raise FpgmError(f"no losses can be predicted: {network.notice}")
    context = RecoveryContext(device, choose_precision(config.evaluation.precision, device))
    losses = yield from within(losses_work(choices, images, config.loss, context=context), 0.4)
    return Prepared(choices, losses)


def suggestion_of(prepared: Prepared, goal: Goal, config: SuggestConfig = SuggestConfig()) -> Suggestion:
    """The suggestion for one goal, from what `prepared_work` made. Raises FpgmError for a goal that cannot be met."""
    pruned = allocated(prepared.choices, goal, config.allocator, losses=prepared.losses, seed=config.seed)
    return suggestion_as(prepared, goal, config, pruned)


def suggestion_as(prepared: Prepared, goal: Goal, config: SuggestConfig, pruned: PrunedNetwork) -> Suggestion:
    """A network that is pruned already as a suggestion, with the prices in it."""
    return Suggestion(pruned, goal, config.allocator, prepared.losses, _prices(prepared, goal, pruned))


def _prices(prepared: Prepared, goal: Goal, pruned: PrunedNetwork) -> tuple[Price, ...]:
    if prepared.losses is None:
        return ()
    choices = prepared.choices
    counts = {one.unit.name: int((~pruned.keep_masks[one.unit.name]).sum()) for one in choices.units}
    cost = COSTS[next(iter(goal.cuts))].of(choices)
    return prices(prepared.losses, cost, choices.nearest(counts))


def within_loss_work(
    network: Network,
    images: ImageSet,
    choose: ImageSet,
    max_loss: float,
    *,
    cost: str = "macs",
    method: str = "recalibrated",
    like: Plan | None = None,
    config: SuggestConfig = SuggestConfig(),
) -> Work[Suggestion]:
    """The plan that cuts most of a cost and loses at most `max_loss`: see `within_loss_of_work`, after preparing."""
    check_loss(max_loss)
    prepared = yield from within(prepared_work(network, images, like=like, config=config), 0, 0.4)
    work = within_loss_of_work(prepared, images, choose, max_loss, cost=cost, method=method, config=config)
    return (yield from within(work, 0.4))


def within_loss_of_work(
    prepared: Prepared,
    images: ImageSet,
    choose: ImageSet,
    max_loss: float,
    *,
    cost: str = "macs",
    method: str = "recalibrated",
    config: SuggestConfig = SuggestConfig(),
) -> Work[Suggestion]:
    """The plan that cuts most of a cost and loses at most `max_loss` of accuracy, a fraction, measured on `choose`.

    Bisects the cut: at each a plan is solved, recovered by `method` and measured on the same images. What counts is the
    measured change, not its interval's end. Raises FpgmError where not even the least cut loses so little.
    """
    check_loss(max_loss)
    low, high, best = 0.0, 1.0, None
    for step in range(_BISECTIONS):
        cut = (low + high) / 2
        progress = Progress(step, _BISECTIONS, f"trying a cut of {cut:.0%}", partial=best)
        yield progress
        try:
            tried = suggestion_of(prepared, Goal({cost: cut}), config)
        except FpgmError:
            high = cut  # more than can be cut
            continue
        work = measure_work(
            tried.pruned, choose, method=method, training=images, config=config.evaluation, preview=False
        )
        measured = yield from behind(work, progress)
        if -measured.change.value <= max_loss + 1e-9:
            low, best = cut, replace(tried, measurement=measured)
        else:
            high = cut
    if best is None:
        raise FpgmError(f"every plan tried loses more than {max_loss * 100:g} points {method}; allow more, or repair")
    return best


def suggest(
    network: Network,
    *,
    images: ImageSet,
    macs_cut: float | None = None,
    params_cut: float | None = None,
    cuts: dict[str, float] | None = None,
    max_loss: float | None = None,
    choose: ImageSet | None = None,
    criterion: str = "fpgm",
    coupling: str = COUPLING,
    config: SuggestConfig = SuggestConfig(),
    **fields: Any,
) -> Suggestion:
    """A plan for a goal, and its reasons.

        suggestion = suggest(network, images=train, macs_cut=0.5)
        repaired = recover(suggestion.pruned, "repaired", images=train)

    `images` are training images. Give shares to cut (`macs_cut`, `params_cut`, others by name in `cuts`), or a
    `max_loss`, accuracy that may go as a fraction, with images to `choose` on. `fields` are the plan's others:
    options, locked_in, locked_out. Raises FpgmError for none or both, and as `suggest_work` does.
    """
    asked = {"macs": macs_cut, "params": params_cut, **(cuts or {})}
    given = {name: cut for name, cut in asked.items() if cut is not None}
    like = network.plan(criterion=criterion, coupling=coupling, **fields)
    if bool(given) == (max_loss is not None):
        raise FpgmError("say what to cut (macs_cut=0.5, say) or what may be lost (max_loss=0.02), one of the two")
    if max_loss is None:
        return run(suggest_work(network, images, Goal(given), like=like, config=config))
    if choose is None:
        raise FpgmError("max_loss is measured: give images to choose on, the choose half of a data set")
    return run(within_loss_work(network, images, choose, max_loss, like=like, config=config))
