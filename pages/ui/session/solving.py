"""Rates from a goal: what a tab asked for, the work that solves and searches, and what is kept of it for every tab."""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

from fpgm_core import FpgmError, Network, Plan
from fpgm_core.allocation import (
    COSTS,
    CostFunction,
    Found,
    Goal,
    Prepared,
    Price,
    SearchConfig,
    Suggestion,
    prepared_work,
    prices,
    search_work,
    suggestion_of,
    within_loss_of_work,
)
from fpgm_core.data import load_images
from fpgm_core.evaluation import History
from fpgm_core.recovery import get_recovery_method, usual_rung
from fpgm_core.runtime.cache import size_of
from fpgm_core.runtime.memo import once
from fpgm_core.runtime.progress import Progress, Work, within
from pages.ui.session.networks import network_key
from pages.ui.session.recovered import Newest
from pages.ui.session.session import Session

SOLVE, SEARCH, LOSSES = "solve", "search", "losses"  # the names of the work
LOSS = "loss"  # the goal that says what may be lost; all others name a cost to cut


@dataclass(frozen=True)
class Asked:
    """A goal as a person gives it: a cost of COSTS and the share of it to cut, or LOSS and the accuracy to lose, 0..1.

    `like` is the plan on screen then, which says criterion, coupling, options and locks; `method` the rung to judge on.
    """

    kind: str
    amount: float
    like: Plan
    method: str


@dataclass(frozen=True)
class Solving:
    """What a tab asked for and has of it: the solved plan, the search's best, and the plan it put on the bars last."""

    asked: Asked
    start: Suggestion | None = None
    found: Found | None = None
    shown: Plan | None = None

    @property
    def best(self) -> Suggestion | None:
        """The best plan so far."""
        return self.found.best if self.found is not None else self.start


@dataclass(frozen=True, eq=False)
class Priced:
    """What prices are read from, for one network, criterion, coupling, options and locks."""

    prepared: Prepared
    cost: CostFunction

    def at(self, network: Network, plan: Plan) -> tuple[Price, ...]:
        """The prices of every unit under a plan; none where no losses were predicted."""
        choices, losses = self.prepared.choices, self.prepared.losses
        counts = {one.unit.name: network.count_pruned(plan, one.unit) for one in choices.units}
        return () if losses is None else prices(losses, self.cost, choices.nearest(counts))


@once
def _kept() -> Newest[Priced]:
    return Newest("prices", lambda priced: size_of(priced.prepared))


def forget_losses() -> None:
    """Let go of what was predicted; what is kept on disk is read again when it is asked for."""
    _kept().clear()


def known_losses(network: Network, plan: Plan) -> Priced | None:
    """What was predicted for a plan's criterion, coupling, options and locks, where it is at hand."""
    return _kept().get(network, replace(plan, rates={}), LOSSES)


def losses_work(network: Network, plan: Plan) -> Work[Priced]:
    """What every unit loses at every count, predicted once for all tabs. Raises FpgmError where nothing can be."""
    known = known_losses(network, plan)
    if known is not None:
        return known
    training = load_images(network.dataset, "train")
    bare = replace(plan, rates={})
    prepared = yield from prepared_work(network, training, like=bare)
    priced = Priced(prepared, COSTS["macs"].model(prepared.choices))
    _kept().keep(network, bare, LOSSES, priced)
    return priced


def solve_work(network: Network, asked: Asked) -> Work[Suggestion]:
    """The plan for a goal. Raises FpgmError for one that cannot be met."""
    priced = yield from within(losses_work(network, asked.like), 0, 0.5 if asked.kind == LOSS else 0.9)
    if asked.kind != LOSS:
        yield Progress(0.9, what="solving")
        return suggestion_of(priced.prepared, Goal({asked.kind: asked.amount}))
    training, choose = (load_images(network.dataset, split) for split in ("train", "choose"))
    work = within_loss_of_work(priced.prepared, training, choose, asked.amount, method=asked.method)
    return (yield from within(work, 0.5))


def searching_work(
    network: Network, asked: Asked, goal: Goal, *, stop: threading.Event, history: History, config: SearchConfig
) -> Work[Found | None]:
    """Search around the solved plan until `stop` is set, or its time is up: the best so far, if any was measured."""
    priced = yield from within(losses_work(network, asked.like), 0, 0)
    training, choose = (load_images(network.dataset, split) for split in ("train", "choose"))
    config = replace(config, method=asked.method)
    found: Found | None = None
    work = search_work(priced.prepared, goal, choose, training, search=config, history=history)
    with closing(work):
        while not stop.is_set():
            try:
                progress = next(work)
            except StopIteration as end:
                found = end.value
                break
            found = found if progress.partial is None else progress.partial
            yield progress
    return found


def ask(session: Session, kind: str, amount: float, *, doing: str) -> None:
    """Begin to solve for a goal, under what is on screen; `doing` says so. An earlier one of this tab ends."""
    network, state = session.network, session.state
    method = usual_rung(network) if get_recovery_method(state.method).trains else state.method
    asked = Asked(kind, amount, state.plan, method)
    for name in (SOLVE, SEARCH):
        session.jobs.cancel(name)
    session.solving = Solving(asked)
    key = (SOLVE, *network_key(network), asked)
    session.jobs.start(SOLVE, partial(solve_work, network, asked), key=key, title=doing)


def take_solution(session: Session, *, doing: str, config: SearchConfig = SearchConfig()) -> None:
    """Put what was solved on the bars, in one step of undo, and search on; then put there what the search found."""
    solving = session.solving
    if solving is None:
        return
    if _moved_away(session, solving):
        session.solving = None
        session.jobs.cancel(SOLVE)
        session.jobs.cancel(SEARCH)
    elif solving.start is None:
        _take_solved(session, solving, doing, config)
    else:
        _take_found(session, solving)


def _moved_away(session: Session, solving: Solving) -> bool:
    """Whether another network, criterion, coupling, option or lock is on screen than was asked for."""
    now, then = (replace(plan, rates={}) for plan in (session.state.plan, solving.asked.like))
    return now != then


def _take_solved(session: Session, solving: Solving, doing: str, config: SearchConfig) -> None:
    job = session.jobs.get(SOLVE)
    if job is None:  # it was stopped
        session.solving = None
    elif job.error:
        session.solving = None
        session.jobs.cancel(SOLVE)
        session.refuse(FpgmError(job.error))
    elif job.result is not None:
        start: Suggestion = job.result
        session.change(plan=start.plan)
        session.solving = replace(solving, start=start, shown=start.plan)
        stop, asked = threading.Event(), solving.asked
        work = partial(
            searching_work, session.network, asked, start.goal, stop=stop, history=session.kept_plans, config=config
        )
        session.jobs.start(SEARCH, work, key=(SEARCH, session.token, asked), title=doing, end=stop.set)


def _take_found(session: Session, solving: Solving) -> None:
    job = session.jobs.get(SEARCH)
    if job is None:
        return
    found: Found | None = job.result or job.partial
    session.solving = solving = replace(solving, found=found)
    if job.error:
        session.jobs.cancel(SEARCH)
        session.refuse(FpgmError(job.error))
    elif job.done and found is not None and session.state.plan == solving.shown != found.best.plan:
        session.change(plan=found.best.plan, within_step=True)
        session.solving = replace(solving, shown=found.best.plan)
