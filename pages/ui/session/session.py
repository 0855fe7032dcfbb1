"""One browser tab: the history of its view states, the draft under the hand, its background work, its trace."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from fpgm_core import FpgmError, Measurement, Network, Plan
from fpgm_core.data import load_images
from fpgm_core.evaluation import measure_work
from fpgm_core.graph import Cost
from fpgm_core.recovery import get_recovery_method, refused_rungs, usual_rung
from fpgm_core.runtime.progress import Work
from pages.ui.session.history import History
from pages.ui.session.jobs import Job, Jobs
from pages.ui.session.networks import (
    check,
    first_view,
    keep_scores,
    network_key,
    network_of,
    scores_work,
    view_of,
    why_unmeasured,
)
from pages.ui.session.opened import forget_images
from pages.ui.session.recovered import recovered_networks, trained_networks
from pages.ui.session.view_state import ViewState, decode, encode

_TRACE_LIMIT = 300


@dataclass(frozen=True)
class TriedPlan:
    """One measured plan of the trace."""

    state: ViewState
    cost: Cost
    measurement: Measurement


@dataclass(frozen=True)
class PendingState:
    """A view state that waits for scores which need more than weights, and the work that makes them."""

    state: ViewState
    job: Job[Any]


class Session:
    """What one tab holds. Kept in Streamlit's session state; every change of what is on screen goes through `go`."""

    def __init__(self, state: ViewState) -> None:
        self.history = History((state,))
        self.token = secrets.token_hex(4)  # tells its revisions from those of a tab's earlier session
        self.revision = 1  # of the rates, for the equaliser: raised by every change that it did not make itself
        self.echo = self.look_echo = 0  # the last messages of the equaliser and of the picture
        self.held: str | None = None  # the unit under the hand
        self.tick: object = None  # the equaliser's last poll for the measurement
        self.refusals = 0
        self.page = ""  # that is on screen
        self.redraw = False  # whether a bar came to rest and only the equaliser was drawn since
        self.draft: Plan | None = None
        self.message: str | None = None
        self._own_images: list[str] = []  # the data sets opened here, which go with the tab
        self.unmeasured = True  # nothing was measured, or moved, yet: see begin
        self.pending: PendingState | None = None
        self.trace: list[TriedPlan] = []
        context = get_script_run_ctx()
        self.jobs = Jobs(context.session_id if context else "headless")

    @property
    def state(self) -> ViewState:
        """The view state on screen."""
        return self.history.now

    @property
    def network(self) -> Network:
        """The network on screen."""
        return network_of(self.state)

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

    def go(self, state: ViewState, by_equaliser: bool = False) -> None:
        """Move to a view state; one that cannot be is refused with a message, and what was there stays.

        One whose criterion has no scores yet is moved to when they are made, in the background.
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
        self.history = self.history.push(state)
        self.measure()

    def _waits_for_scores(self, state: ViewState) -> bool:
        """Whether the view state has to wait for its criterion's scores, which are begun then."""
        self._stop_scoring()
        network, criterion = network_of(state), state.plan.criterion
        if network.has_scores(criterion):
            return False
        key = ("scores", *network_key(network), criterion)
        work, doing = partial(scores_work, network, criterion), f"reading training images for {criterion}"
        job = self.jobs.start("scores", work, key=key, title=doing, end=self.cancel_pending)
        self.pending = PendingState(state, job)
        return True

    def _stop_scoring(self) -> None:
        self.pending = None
        self.jobs.cancel("scores")

    def go_to_pending(self) -> None:
        """Move to the view state that waited for scores once they are made, or say why there are none."""
        if self.pending is None or not self.pending.job.done:
            return
        pending, self.pending = self.pending, None
        if pending and pending.job.error:
            self.refuse(FpgmError(pending.job.error))
        elif pending and pending.job.result is not None:
            criterion = pending.state.plan.criterion
            keep_scores(network_of(pending.state), criterion, pending.job.result)
            self.go(pending.state)

    def cancel_pending(self) -> None:
        """Stay where the page is: the view state that waits for scores is not wanted any more."""
        self._stop_scoring()
        self.refusals += 1  # the criterion's menu goes back to what is true

    def rest(self, rates: Mapping[str, float], unit: str | None) -> None:
        """Move to the rates that a hand left on the bars; `unit` is the one it moved, whose layer is looked at."""
        state = self.state
        layer = self.layer_of(unit) if unit else state.layer
        chosen = state.chosen if layer == state.layer else None
        self.go(replace(state, plan=state.plan.with_rates(rates), layer=layer, chosen=chosen), by_equaliser=True)

    def change(self, **fields: object) -> None:
        """Move to the view state on screen with some fields replaced."""
        try:
            self.go(replace(self.state, **fields))  # type: ignore[arg-type]
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
        self.message = str(error)
        self.refusals += 1
        self.revision += 1

    def own_images(self, name: str) -> None:
        """Have a data set that was opened here go when the tab closes."""
        self._own_images.append(name)

    def close(self) -> None:
        """End everything that belongs to the tab."""
        self.jobs.close()
        for name in self._own_images:
            forget_images(name)

    def step(self, steps: int) -> None:
        """Undo (-1) or redo (+1)."""
        self.draft = None
        self._stop_scoring()
        self.history = self.history.move(steps)
        self.revision += 1
        self.message = None
        self.measure()

    def enter(self, page: str) -> None:
        """Begin a page: what belongs to another ends, and what was waited for is moved to once it is there."""
        self.page = page
        self.jobs.enter(page)
        self.go_to_pending()
        self.record()

    def begin(self) -> None:
        """Start the first measurement, once the page that it would hold up is on screen."""
        if self.unmeasured:
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


def measurement_work(network: Network, plan: Plan, method: str, split: str = "choose") -> Work[Measurement]:
    """Measure a plan on a half of the test images, recovered by a method. The images are read in the background."""
    images = load_images(network.dataset, split)
    trained = trained_networks().get(network, plan, method)
    known = trained.pruned if trained else recovered_networks().get(network, plan, method)
    if known is not None:
        return (yield from measure_work(known, images))
    training = load_images(network.dataset, "train") if get_recovery_method(method).needs_images else None
    keep = partial(recovered_networks().keep, network, plan, method)
    return (yield from measure_work(network.prune(plan), images, method=method, training=training, keep=keep))


def can_stand_on(state: ViewState) -> bool:
    """Whether a view state's plan can be shown on its rung: one that the network has, a trained one trained here."""
    if not get_recovery_method(state.method).trains:
        return state.method not in refused_rungs(network_of(state))
    return trained_networks().get(network_of(state), state.plan, state.method) is not None


def current_session() -> Session:
    """This tab's session; begun from the link where it carries a view state, else from the first one."""
    if "session" not in st.session_state:
        begin, goal, problem = _from_link(st.query_params.get("s"))
        session = st.session_state.session = Session(begin)
        session.message = problem
        if goal:
            session.go(goal)
        _end_with_tab(session)
    current: Session = st.session_state.session
    return current


def _from_link(text: str | None) -> tuple[ViewState, ViewState | None, str | None]:
    """What to show, what to move to once its scores are made, and what is wrong with the link."""
    if text:
        try:
            state = decode(text)
            if not can_stand_on(state):
                rung = usual_rung(network_of(state))
                reason = refused_rungs(network_of(state)).get(state.method) or (
                    "this plan has not been trained on this server: train it on Recover"
                )
                problem = f"{reason}; here it is measured {get_recovery_method(rung).title.lower()}"
                return replace(state, method=rung), None, problem
            if not network_of(state).has_scores(state.plan.criterion):
                return view_of(network_of(state), coupling=state.plan.coupling), state, None
            check(state)
            return state, None, None
        except FpgmError as error:
            return first_view(), None, str(error)
    return first_view(), None, None


def share(state: ViewState) -> None:
    """Put the view state into the address, where it can be copied."""
    text = encode(state)
    if st.query_params.get("s") != text:
        st.query_params["s"] = text


def _end_with_tab(session: Session) -> None:
    """End all that belongs to the session when its tab closes."""

    @st.cache_resource(scope="session", on_release=Session.close, show_spinner=False)
    def lease(number: int) -> Session:
        return session

    lease(id(session))


def callback(act: Callable[[Session], None]) -> Callable[[], None]:
    """A widget callback that acts on this session."""
    return lambda: act(current_session())


def mirror(name: str, value: object, act: Callable[[Session, Any], None], scope: str = "") -> dict[str, Any]:
    """`key` and `on_change` of a widget that shows `value`, which other controls may change as well.

    The key carries the value, so a change from elsewhere makes a new widget. Under one key the browser's
    next message would still carry the old value, and count as the person's change back to it. It carries the page as
    well: to Streamlit a widget of another page is another one, which would begin with its first option.
    """
    session = current_session()
    key = f"{name}:{scope}:{value}:{session.refusals}:{session.page}"
    st.session_state[key] = value

    def changed() -> None:
        chosen = st.session_state[key]
        # A new widget's first message counts as a change, and is none; nor is one that has nothing chosen.
        if chosen is not None and chosen != value:
            act(current_session(), chosen)

    return {"key": key, "on_change": changed}


def menu(name: str, value: object, act: Callable[[Session, Any], None], scope: str = "") -> dict[str, Any]:
    """`mirror` for a selectbox, to which nothing chosen would else be its first option."""
    return {**mirror(name, value, act, scope), "index": None, "required": True}
