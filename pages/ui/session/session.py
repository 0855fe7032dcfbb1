"""One browser tab: the history of its view states, the draft under the hand, its background work, its trace."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from streamlit.runtime.scriptrunner import get_script_run_ctx

from fpgm_core import FpgmError, Measurement, Network, Plan
from fpgm_core.criteria import Scores, get_criterion
from fpgm_core.data import load_images
from fpgm_core.evaluation import History as KeptPlans
from fpgm_core.graph import Cost
from fpgm_core.lesson import Words
from fpgm_core.recovery import usual_rung
from fpgm_core.runtime.progress import Work
from pages.ui.components.telling import told
from pages.ui.session.history import History
from pages.ui.session.housekeeping import house
from pages.ui.session.jobs import Job, Jobs, opening_worker
from pages.ui.session.kept_plans import history_of_visitor
from pages.ui.session.language import tab_words
from pages.ui.session.measuring import can_stand_on, measurement_work
from pages.ui.session.networks import (
    check,
    is_open,
    keep_scores,
    network_key,
    network_of,
    open_network,
    scores_work,
    view_of,
    why_unmeasured,
)
from pages.ui.session.opened import forget_images
from pages.ui.session.opening import open_work
from pages.ui.session.recovered import trained_networks
from pages.ui.session.speed_state import Speed
from pages.ui.session.view_state import ViewState
from pages.ui.session.worker import Worker

if TYPE_CHECKING:
    from pages.ui.session.solving import Solving

T = TypeVar("T")
_TRACE_LIMIT = 300


@dataclass(frozen=True)
class TriedPlan:
    """One measured plan of the trace."""

    state: ViewState
    cost: Cost
    measurement: Measurement


@dataclass(frozen=True)
class Pending:
    """A move that waits for work, whose result it takes; `is_first` where nothing was on screen before."""

    job: Job[Any]
    move: Callable[[Any], object]
    is_first: bool = False


class Session:
    """What one tab holds. Kept in Streamlit's session state; every change of what is on screen goes through `go`."""

    def __init__(self, state: ViewState) -> None:
        self.history = History((state,))
        self.token = secrets.token_hex(4)  # tells its revisions from those of a tab's earlier session
        self.revision = 1  # of the rates, for the equaliser: raised by every change that it did not make itself
        self.echo = self.look_echo = 0  # the last messages of the equaliser and of the picture
        self.held: str | None = None  # the unit under the hand
        self.tick: int | None = None  # the equaliser's last poll for the measurement
        self.refusals = 0
        self.page = ""  # that is on screen
        self.picture_is_coming = False  # whether the layer's picture waits for something
        self.redraw = False  # whether a bar came to rest and only the equaliser was drawn since
        self.draft: Plan | None = None
        self.message: str | None = None
        self._own_images: list[str] = []  # the data sets opened here, which go with the tab
        self.unmeasured = True  # nothing was measured, or moved, yet: see begin
        self.pending: Pending | None = None
        self._network: Network | None = None
        self.trace: list[TriedPlan] = []
        self.speed = Speed()
        self.solving: Solving | None = None  # the goal that was asked for, and what came of it
        context = get_script_run_ctx()
        self.name = context.session_id if context else "headless"
        self.jobs = Jobs(self.name)

    @property
    def words(self) -> Words:
        """What the pages say, in this tab's language."""
        return tab_words()

    @property
    def state(self) -> ViewState:
        """The view state on screen."""
        return self.history.now

    @property
    def network(self) -> Network:
        """The network on screen; held here, so that it is there however little room there is for others."""
        self._network = network_of(self.state)
        return self._network

    @property
    def plan(self) -> Plan:
        """The plan whose costs are shown: the draft under the hand, else the view state's."""
        return self.draft or self.state.plan

    @property
    def is_moving(self) -> bool:
        """Whether a hand is moving the plan: what is measured is not what is shown."""
        return self.draft is not None and self.draft != self.state.plan

    @property
    def layer_in_sight(self) -> str:
        """The layer that is looked at: that of the view state, but where a hand moves another unit's bar."""
        held = self.held if self.draft is not None else None
        return self.state.layer if held is None else self.layer_of(held)

    def layer_of(self, unit: str) -> str:
        """The layer to look at when a unit is chosen: the one on screen where the unit has it, else its first."""
        own = self.network.unit_of(self.state.layer, self.state.plan.coupling)
        return self.state.layer if own is not None and own.name == unit else unit

    @property
    def kept_plans(self) -> KeptPlans:
        """The plans that whoever looks at this page has measured, from sitting to sitting."""
        return history_of_visitor(self.token)

    def go(self, state: ViewState, by_equaliser: bool = False, within_step: bool = False) -> None:
        """Move to a view state; one that cannot be is refused with a message, and what was there stays.

        One whose criterion has no scores yet is moved to when they are made, in the background. `within_step` replaces
        the step on screen, so that undo goes back to what was before it.
        """
        self.draft = None
        try:
            if not can_stand_on(state):  # another plan than the one that was trained, or a network without the rung
                state = replace(state, method=usual_rung(network_of(state)))
            if self._waits_for_scores(state):
                return
            check(state)
        except FpgmError as error:
            self.refuse(error)
            return
        if not by_equaliser and state.plan.rates != self.state.plan.rates:
            self.revision += 1
        self.message = None
        self.history = self.history.put(state) if within_step else self.history.push(state)
        self.measure()

    def _waits_for_scores(self, state: ViewState) -> bool:
        """Whether the view state has to wait for its criterion's scores, which are begun then."""
        self._stop_waiting()
        network, criterion = network_of(state), state.plan.criterion
        if network.has_scores(criterion):
            return False

        def move(scores: Scores) -> None:
            keep_scores(network_of(state), criterion, scores)
            self.go(state)

        key = ("scores", *network_key(network), criterion)
        doing = self.words("work.scores", criterion=self.words.of(get_criterion(criterion)))
        self._wait("scores", partial(scores_work, network, criterion), move, key=key, title=doing)
        return True

    def with_network(self, plan: Plan, move: Callable[[Network], object], *, is_first: bool = False) -> None:
        """Do `move` with the network that a plan is for, once it is open; where it cannot be, say why.

        What takes long is opened in the background. `is_first` says that nothing is on screen yet: the page waits.
        """
        self._stop_waiting()
        try:
            if is_open(plan.model, plan.fingerprint):
                move(open_network(plan.model, plan.fingerprint))
                return
            work = partial(open_work, plan.model, plan.fingerprint)
            key, title = ("network", plan.model, plan.fingerprint), self.words("work.opening", model=plan.model)
            self._wait("network", work, move, key=key, title=title, worker=opening_worker(), is_first=is_first)
        except FpgmError as error:
            self.refuse(error)

    def state_of(self, network: Network) -> ViewState:
        """Where to put a plan of an open network: on what is on screen, or where another is first looked at."""
        return self.state if network.identity == self.network.identity else view_of(network)

    def _wait(
        self,
        name: str,
        work: Callable[[], Work[T]],
        move: Callable[[T], object],
        *,
        key: Hashable,
        title: str,
        worker: Worker | None = None,
        is_first: bool = False,
    ) -> None:
        job = self.jobs.start(name, work, key=key, title=title, end=self.cancel_pending, worker=worker)
        self.pending = Pending(job, move, is_first)

    def _stop_waiting(self) -> None:
        self.pending = None
        for name in ("scores", "network"):
            self.jobs.cancel(name)

    @property
    def is_arriving(self) -> bool:
        """Whether what a link shows is being opened, and nothing is on screen before."""
        return self.pending is not None and self.pending.is_first

    def go_to_pending(self) -> None:
        """Make the move that waited for work once that is done, or say why there is none."""
        if self.pending is None or not self.pending.job.done:
            return
        pending, self.pending = self.pending, None
        try:
            if pending.job.error:
                self.refuse(FpgmError(pending.job.error))
            elif pending.job.result is not None:
                pending.move(pending.job.result)
        except FpgmError as error:
            self.refuse(error)

    def cancel_pending(self) -> None:
        """Stay where the page is: the move that waits is not wanted any more."""
        self._stop_waiting()
        self.refusals += 1  # the criterion's menu goes back to what is true

    def rest(self, rates: Mapping[str, float], unit: str | None) -> None:
        """Move to the rates that a hand left on the bars; `unit` is the one it moved, whose layer is looked at."""
        state = self.state
        layer = self.layer_of(unit) if unit else state.layer
        chosen = state.chosen if layer == state.layer else None
        self.go(replace(state, plan=state.plan.with_rates(rates), layer=layer, chosen=chosen), by_equaliser=True)

    def try_on(self, plan: Plan) -> None:
        """Show a plan on the bars while a hand holds it; measuring waits until it rests. Not for one that cannot be."""
        try:
            self.network.cost(plan)
        except FpgmError as error:
            self.refuse(error)
            return
        self.stop_measuring()
        self.draft, self.held, self.message = plan, None, None
        self.revision += 1

    def change(self, *, within_step: bool = False, **fields: object) -> None:
        """Move to the view state on screen with some fields replaced; `within_step` as in `go`."""
        try:
            self.go(replace(self.state, **fields), within_step=within_step)  # type: ignore[arg-type]
        except FpgmError as error:
            self.refuse(error)

    def look(self, **fields: object) -> bool:
        """Look at something else of the plan on screen, which stays; whether that could be, else there is a message."""
        try:
            state: ViewState = replace(self.state, **fields)  # type: ignore[arg-type]
            check(state)
        except FpgmError as error:
            self.refuse(error)
            return False
        self.message = None
        self.history = self.history.push(state)
        return True

    def refuse(self, error: FpgmError) -> None:
        """Say why a change was not made; bars and widgets go back to what is true."""
        self.message = told(error)
        self.refusals += 1
        self.revision += 1

    def own_images(self, name: str) -> None:
        """Have a data set that was opened here go when the tab closes."""
        self._own_images.append(name)

    def pause(self) -> None:
        """End the tab's work, let go of its network; where the tab comes back, what is on screen is measured again."""
        self.jobs.close()
        self._network = None

    def resume(self) -> None:
        """Begin where `pause` or `close` ended: the tab is there again."""
        self.jobs, self.unmeasured, self.pending = Jobs(self.name), True, None
        house().enter(self.name, self)

    def close(self) -> None:
        """End everything that belongs to the tab."""
        self.pause()
        for name in self._own_images:
            forget_images(name)

    def begin_with(self, state: ViewState) -> None:
        """Have nothing but a view state on screen, which can be there, and nothing to go back to."""
        self.history = History((state,))
        self.revision += 1
        self.unmeasured = True

    def step(self, steps: int) -> None:
        """Undo (-1) or redo (+1); where the network of that step had to go meanwhile, once it is open again."""
        self.draft = None
        history = self.history.move(steps)

        def move(network: Network) -> None:
            check(history.now)
            self.history = history
            self.revision += 1
            self.message = None
            self.measure()

        self.with_network(history.now.plan, move)

    def enter(self, page: str) -> None:
        """Begin a page: what belongs to another ends, and what was waited for is moved to once it is there."""
        self.page = page
        self.jobs.enter(page)
        self.go_to_pending()
        self.record()

    def begin(self) -> None:
        """Start the first measurement, once the page that it would hold up is on screen."""
        if self.unmeasured and not self.is_arriving:
            self.measure()

    def measure(self) -> None:
        """Start the measurement of what is on screen; any other of this session is cancelled."""
        if self.jobs.is_closed:  # the tab closed while its last message was on the way
            return
        self.unmeasured = False
        network, plan, method = self.network, self.state.plan, self.state.method
        if why_unmeasured(network) is not None:
            self.stop_measuring()  # the page says so beside the number
            return
        work = partial(measurement_work, network, plan, method)
        self.jobs.start("measurement", work, key=("measurement", *network_key(network), plan.key, method), long=False)

    def stop_measuring(self) -> None:
        """Cancel the measurement under way."""
        self.unmeasured = False
        self.jobs.cancel("measurement")

    @property
    def measuring(self) -> Job[Measurement] | None:
        """The measurement of what is on screen, under way or ended."""
        return self.jobs.get("measurement")

    @property
    def measurement(self) -> Measurement | None:
        """What the measurement has brought so far."""
        job = self.measuring
        return None if job is None else job.result or job.partial

    @property
    def refitted(self) -> float | None:
        """The share that is done of the refit before the first figure; None where none is under way."""
        job = self.measuring
        if job is None or job.done or job.partial is not None or job.progress is None:
            return None
        return job.share if "repairing" in job.progress.what else None

    def measured(self, method: str) -> Measurement | None:
        """The exact measurement of the plan on screen under a recovery method, where it was made: training's too."""
        trained = trained_networks().get(self.network, self.state.plan, method)
        return self._tried(method) if trained is None else trained.after

    def _tried(self, method: str) -> Measurement | None:
        """The measurement of the plan on screen, on its images, under a recovery method that stands in the trace."""
        wanted = (self.state.plan, self.state.data, method)
        found = (tried for tried in self.trace if (tried.state.plan, tried.state.data, tried.state.method) == wanted)
        return next((tried.measurement for tried in found), None)

    def has_new_result(self) -> bool:
        """Whether the measurement has ended and the trace does not have it yet."""
        job = self.measuring
        if self.is_moving or job is None or job.result is None:
            return False
        return self._tried(self.state.method) is None

    def record(self) -> None:
        """Put the finished measurement into the trace, once."""
        if self.has_new_result() and self.measurement is not None:
            tried = TriedPlan(self.state, self.network.cost(self.state.plan), self.measurement)
            self.trace = [*self.trace, tried][-_TRACE_LIMIT:]
            self._keep(tried)

    def _keep(self, tried: TriedPlan) -> None:
        """Keep a measured plan for later sittings; where that cannot be, say so."""
        network, state = network_of(tried.state), tried.state
        try:
            images = load_images(network.dataset, "choose")
            self.kept_plans.add(network.prune(state.plan), images, tried.measurement)
        except FpgmError as error:
            self.message = told(error)
