"""One person's sitting: the history of looks, the draft under the hand, the measurement under way, the trace."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from fpgm_core import EvaluationConfig, FpgmError, Network, Plan
from fpgm_core.criteria import Scores, check_scorable, norm_diagnostics, score_work
from fpgm_core.criteria.diagnostics import NormDiagnostics
from fpgm_core.data import load_images
from fpgm_core.evaluation import Figure, Repairing
from fpgm_core.graph import Cost, weights_of
from fpgm_core.pruning import PRESETS
from fpgm_core.runtime.device import choose_device
from fpgm_core.runtime.progress import shares
from pages.ui.jobs import Job, engine
from pages.ui.state import History, Look, decode, encode

FIRST_MODEL = "mobilenetv2_cifar"  # its depthwise layers are where norm and FPGM part
FIRST_COUPLING = "inner"
FIRST_PRESET = "uniform_30%"
_TRACE_LIMIT = 300
# What a session may have under way beside its measurement.
PURPOSES = (":export", ":recover", ":scores", ":replaceability", ":surface", ":sensitivity")


def network(model: str) -> Network:
    """A network of the registry, opened once for every session, with the scores that were made of it.

    Raises FpgmError for one that cannot be opened.
    """
    opened = _opened(model)
    return _with_scores(opened.fingerprint, tuple(known_scores().get(opened.fingerprint, {})), opened)


@st.cache_resource(max_entries=6, show_spinner="Opening the network ...")
def _opened(model: str) -> Network:
    opened = Network.load(model)
    opened.dense_cost  # noqa: B018  traced here, behind the spinner, not on the first move
    return opened


# Until sessions hold their scores: what was made by criteria that need images, by fingerprint, then criterion.
@st.cache_resource(show_spinner=False)
def known_scores() -> dict[str, dict[str, Scores]]:
    """Scores of criteria that need images, by the network's fingerprint, then the criterion."""
    return {}


@st.cache_resource(max_entries=6, show_spinner=False)
def _with_scores(fingerprint: str, criteria: tuple[str, ...], _network: Network) -> Network:
    for criterion in criteria:
        _network = _network.with_scores(criterion, known_scores()[fingerprint][criterion])
    return _network


def _score_steps(network: Network, criterion: str, known: dict[str, dict[str, Scores]]) -> Iterator[float]:
    check_scorable(network, criterion)
    work = score_work(network, criterion, load_images(network.dataset, "train"), device=choose_device("auto"))
    scores = yield from shares(work)
    known[network.fingerprint] = {**known.get(network.fingerprint, {}), criterion: scores}
    yield 1.0


@st.cache_data(max_entries=64, show_spinner=False)
def diagnostics(fingerprint: str, _network: Network) -> dict[str, NormDiagnostics]:
    """The norm figures of every layer."""
    return {layer.name: norm_diagnostics(weights_of(_network.module, layer.name)) for layer in _network.layers}


@dataclass(frozen=True)
class Tried:
    """One measured plan of the trace."""

    look: Look
    cost: Cost
    figure: Figure


@dataclass(frozen=True)
class Pending:
    """A look that waits for scores which need more than weights, and the work that makes them: the share done."""

    look: Look
    job: Job[float]


class Session:
    """What one browser session holds. Kept in session state; every change goes through `go`."""

    def __init__(self, look: Look) -> None:
        self.history = History((look,))
        self.revision = 1  # of the rates, for the equaliser: raised by every change that it did not make itself
        self.echo = 0
        self.tick: object = None  # the bars' last asking for the measurement
        self.refusals = 0
        self.redraw = False  # whether a bar came to rest and only the equaliser was drawn since
        self.draft: Plan | None = None
        self.message: str | None = None
        self.job: Job[Figure | Repairing] | None = None
        self.fresh = True  # nothing was measured, or moved, yet: see begin
        self.pending: Pending | None = None
        self.works: dict[str, tuple[Hashable, Job[Any] | None]] = {}  # by purpose: what it is about, None if stopped
        self.trace: list[Tried] = []
        context = get_script_run_ctx()
        self.session = context.session_id if context else "headless"

    @property
    def look(self) -> Look:
        """The look on screen."""
        return self.history.now

    @property
    def network(self) -> Network:
        """The network on screen."""
        return network(self.look.plan.model)

    @property
    def plan(self) -> Plan:
        """The plan whose costs are shown: the draft under the hand, else the look's."""
        return self.draft or self.look.plan

    def go(self, look: Look, by_equaliser: bool = False) -> None:
        """Move to a look; one that cannot be is refused with a message, and what was there stays.

        One whose criterion has no scores yet is moved to when they are made, in the background.
        """
        self.draft = None
        try:
            if self._prepare(look):
                return
            check(look)
        except FpgmError as error:
            self.refuse(error)
            return
        if not by_equaliser and look.plan.rates != self.look.plan.rates:
            self.revision += 1
        self.message = None
        self.history = self.history.push(look)
        self.measure()

    def _prepare(self, look: Look) -> bool:
        """Whether the look has to wait for its criterion's scores, which are begun then."""
        self._stop_scoring()
        module, criterion = network(look.plan.model), look.plan.criterion
        if module.has_scores(criterion):
            return False
        key = ("scores", module.fingerprint, criterion)
        steps = partial(_score_steps, module, criterion, known_scores())
        self.pending = Pending(look, engine().run(f"{self.session}:scores", key, steps))
        return True

    def _stop_scoring(self) -> None:
        self.pending = None
        engine().cancel(f"{self.session}:scores")

    def arrive(self) -> None:
        """Move to the look that waited for scores, or say why there are none."""
        pending, self.pending = self.pending, None
        if pending and pending.job.error:
            self.refuse(FpgmError(pending.job.error))
        elif pending:
            self.go(pending.look)

    def give_up(self) -> None:
        """Stay where the page is: the look that waited for scores is not wanted any more."""
        self._stop_scoring()
        self.refusals += 1  # the criterion's menu goes back to what is true

    def halt(self, purpose: str) -> None:
        """Stop the background work of a purpose until it is asked for again."""
        engine().cancel(self.session + purpose)
        if purpose in self.works:
            self.works[purpose] = (self.works[purpose][0], None)

    def resume(self, purpose: str) -> None:
        """Begin the work of a purpose again when it is next looked for."""
        self.works.pop(purpose, None)

    def change(self, **fields: object) -> None:
        """Move to the look on screen with some fields replaced."""
        try:
            self.go(replace(self.look, **fields))  # type: ignore[arg-type]
        except FpgmError as error:
            self.refuse(error)

    def refuse(self, error: FpgmError) -> None:
        """Say why a change was not made; bars and widgets go back to what is true."""
        self.message = str(error)
        self.refusals += 1
        self.revision += 1

    def step(self, by: int) -> None:
        """Undo (-1) or redo (+1)."""
        self.draft = None
        self._stop_scoring()
        self.history = self.history.move(by)
        self.revision += 1
        self.message = None
        self.measure()

    def begin(self) -> None:
        """Ask for the first measurement, where there was none: when the page is on screen, which it would hold up."""
        if self.fresh:
            self.measure()

    def measure(self) -> None:
        """Ask for the measurement of the look on screen; any other of this session is cancelled."""
        settings, self.fresh = EvaluationConfig(rung=self.look.rung), False
        try:
            self.job = engine().request(self.session, self.network, self.look.plan, settings)
        except FpgmError:
            self.stop()  # no trained weights, or no images: the page says so beside the number

    def stop(self) -> None:
        """Cancel the measurement under way."""
        self.fresh = False
        engine().cancel(self.session)
        self.job = None

    @property
    def figure(self) -> Figure | None:
        """What the measurement has brought so far."""
        return self.job.latest if self.job and isinstance(self.job.latest, Figure) else None

    def measured(self, rung: str) -> Figure | None:
        """The exact figure of the plan on screen on a rung, where it was measured in this sitting."""
        same = (one.figure for one in self.trace if (one.look.plan, one.look.rung) == (self.look.plan, rung))
        return next(same, None)

    def has_news(self) -> bool:
        """Whether the measurement has ended and the trace does not have it yet."""
        job = self.job
        if self.draft is not None or job is None or not job.done or self.figure is None or job.error:
            return False
        return self.measured(self.look.rung) is None

    def remember(self) -> None:
        """Put the finished measurement into the trace, once."""
        if self.has_news() and self.figure is not None:
            tried = Tried(self.look, self.network.cost(self.look.plan), self.figure)
            self.trace = [*self.trace, tried][-_TRACE_LIMIT:]


def check(look: Look) -> None:
    """Raise FpgmError where a look names a network, unit, layer or filter that is not there, or impossible locks."""
    module = network(look.plan.model)
    module.cost(look.plan)
    layer = next((layer for layer in module.layers if layer.name == look.layer), None)
    if layer is None:
        raise FpgmError(f"{look.plan.model} has no layer {look.layer!r}; choose one of its convolutions")
    if look.chosen is not None and not 0 <= look.chosen < layer.filters:
        raise FpgmError(f"{look.layer} has no filter {look.chosen}; its filters are 0 to {layer.filters - 1}")


def first_look(model: str = FIRST_MODEL, criterion: str = "fpgm", coupling: str = FIRST_COUPLING) -> Look:
    """Where a network is first opened: pruned a little, on the layer where norm and FPGM disagree most."""
    module = network(model)
    units = module.units(coupling)
    plan = module.plan(PRESETS[FIRST_PRESET].rates(units), criterion=criterion, coupling=coupling)
    return Look(plan, _most_disputed(module), view="Scores")


def _most_disputed(network: Network) -> str:
    figures = diagnostics(network.fingerprint, network)
    known = {name: figure.spearman for name, figure in figures.items() if figure.spearman is not None}
    return min(known, key=lambda name: known[name]) if known else network.layers[0].name


def sitting() -> Session:
    """This session's sitting; begun from the link where it carries a look, else from the first one."""
    if "sitting" not in st.session_state:
        begun, wanted, problem = _from_link(st.query_params.get("s"))
        st.session_state.sitting = Session(begun)
        st.session_state.sitting.message = problem
        if wanted:
            st.session_state.sitting.go(wanted)
        close_with_session(st.session_state.sitting.session)
    here: Session = st.session_state.sitting
    return here


def _from_link(text: str | None) -> tuple[Look, Look | None, str | None]:
    """What to show, what to go on to once it is ready, and what is wrong with the link."""
    if text:
        try:
            look = decode(text)
            if not network(look.plan.model).has_scores(look.plan.criterion):
                return first_look(look.plan.model, coupling=look.plan.coupling), look, None
            check(look)
            return look, None, None
        except FpgmError as error:
            return first_look(), None, str(error)
    return first_look(), None, None


def share(look: Look) -> None:
    """Put the look into the address, where it can be copied."""
    text = encode(look)
    if st.query_params.get("s") != text:
        st.query_params["s"] = text


def close_with_session(session: str) -> None:
    """Cancel the session's work when its tab closes."""

    def release(name: str) -> None:
        for purpose in ("", *PURPOSES):
            engine().cancel(name + purpose)

    @st.cache_resource(scope="session", on_release=release, show_spinner=False)
    def lease(name: str) -> str:
        return name

    lease(session)


def callback(act: Callable[[Session], None]) -> Callable[[], None]:
    """A widget callback that acts on this session's sitting."""
    return lambda: act(sitting())


def mirror(name: str, value: object, act: Callable[[Session, Any], None], scope: str = "") -> dict[str, Any]:
    """`key` and `on_change` of a widget that shows `value`, which other controls may change as well.

    The key carries the value, so a change from elsewhere makes a new widget. Under one key the browser's
    next message would still carry the old value, and count as the person's change back to it.
    """
    key = f"{name}:{scope}:{value}:{sitting().refusals}"
    if key not in st.session_state:
        st.session_state[key] = value

    def changed() -> None:
        if st.session_state[key] != value:  # a new widget's first message counts as a change, and is none
            act(sitting(), st.session_state[key])

    return {"key": key, "on_change": changed}
