"""Milliseconds: on which machine a tab wants them, and what predicts them there."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping

from fpgm_core import FpgmError, Plan, PrunedNetwork
from fpgm_core.allocation import Choices, Stairs, stairs_of
from fpgm_core.timing import RUNTIMES, Predictor, Target, available_runtimes, kept_predictor, probe_work, ratio_verdict
from fpgm_core.timing.boards import read_board
from pages.ui.components.telling import told
from pages.ui.session.networks import network_key
from pages.ui.session.session import Session
from pages.ui.session.speed_state import NOWHERE

JOB = "probe"


def machines(session: Session) -> dict[str, str]:
    """What can be asked about, and what it is called: the runtimes of this machine, and the boards."""
    here = {name: session.words.of(RUNTIMES[name]) for name in available_runtimes()}
    return {**here, **{name: name for name in session.speed.boards}}


def choose_machine(session: Session, name: str) -> None:
    """Ask about another machine; one that was not timed yet may have been meanwhile, by the command."""
    session.speed.on = name
    session.speed.known = {key: found for key, found in session.speed.known.items() if found is not None}


def _key(session: Session, coupling: str | None = None) -> Hashable:
    return (*network_key(session.network), coupling or session.state.plan.coupling, session.speed.on)


def predictor(session: Session, coupling: str | None = None) -> Predictor | None:
    """What predicts milliseconds under a coupling, that of the plan on screen without one.

    None where no machine is chosen, or it was not timed yet.
    """
    speed = session.speed
    if speed.on == NOWHERE:  # as it mostly is: every drag asks
        return None
    key = _key(session, coupling)
    job = session.jobs.get(JOB, (JOB, key))
    if job is not None and job.done and job.result is not None:
        speed.known[key] = job.result
    if key not in speed.known:
        identity = speed.boards.get(speed.on) or Target(speed.on).identity
        speed.known[key] = kept_predictor(session.network, coupling or session.state.plan.coupling, identity)
    return speed.known[key]


def begin_probe(session: Session) -> None:
    """Time what is needed to predict, in the background; what is timed stays, also where it is stopped."""
    network, plan, key = session.network, session.state.plan, _key(session)
    target = Target(session.speed.on)
    like = network.plan(coupling=plan.coupling)
    title = session.words("speed.timing", network=network.title, machine=machines(session)[session.speed.on])
    session.jobs.cancel(JOB)
    session.jobs.start(JOB, lambda: probe_work(network, like, target), key=(JOB, key), title=title)


def take_board(session: Session, content: bytes, name: str) -> bool:
    """Read what another board's probe.py wrote, and ask about that board; False, with a message, where it cannot be."""
    network = session.network
    try:
        found = read_board(content, network, network.plan(coupling=session.state.plan.coupling), name=name)
    except FpgmError as error:
        session.message = told(error)
        return False
    identity = found.table.identity
    board = f"{identity['processor']}, {identity['threads']} × {identity['runtime']}"
    session.speed.boards[board] = identity
    session.speed.on = board
    session.speed.known[_key(session)] = found
    return True


def verdict(found: Predictor, pruned: PrunedNetwork) -> str:
    """Whether a network is predicted faster than the dense one, slower, or neither: one of `VERDICTS`."""
    return ratio_verdict(found.ratio(pruned), False, 1.0)


def stairs(session: Session) -> Mapping[str, Stairs]:
    """The stairs of every unit at the plan that rests on screen, by name; none without a predictor."""
    plan, speed = session.state.plan, session.speed
    key = (_key(session), plan.key)
    if predictor(session) is None:
        return {}
    if speed.stairs[0] != key:
        speed.stairs = (key, _stairs_at(session, plan))
    return speed.stairs[1]


def _stairs_at(session: Session, plan: Plan) -> Mapping[str, Stairs]:
    found, network = predictor(session), session.network
    if found is None or found.coupling != plan.coupling:
        return {}
    counts = {unit.name: network.count_pruned(plan, unit) for unit in network.units(plan.coupling)}
    return stairs_of(_choices(session, plan), found, counts)


def _choices(session: Session, plan: Plan) -> Choices:
    """What the plan's units can lose, remembered while only rates change."""
    like = plan.with_rates(dict.fromkeys(plan.rates, 0.0))
    key = (*network_key(session.network), like.key)
    if session.speed.choices[0] != key or session.speed.choices[1] is None:
        session.speed.choices = (key, Choices.of(session.network, like))
    found = session.speed.choices[1]
    assert found is not None
    return found


def on_bargains(session: Session, plan: Plan, units: Collection[str] | None = None) -> Plan:
    """A plan with every unit, or those named, at its nearest bargain count; as it is where nothing predicts."""
    found, rates = _stairs_at(session, plan), dict[str, float]()
    for one in _choices(session, plan).units if found else ():
        unit = one.unit
        if unit.name in found and (units is None or unit.name in units):
            wanted = found[unit.name].nearest_bargain(session.network.count_pruned(plan, unit))
            rates[unit.name] = one.rates[list(one.counts).index(wanted)]
    return plan.with_rates(rates)


def step_on_bargains(session: Session) -> None:
    """Move every unit to its nearest bargain count."""
    session.change(plan=on_bargains(session, session.state.plan))


def stepped(session: Session, plan: Plan, units: Collection[str] | None = None) -> Plan:
    """What the master or a preset makes of a plan: on bargains, where the tab asks for that."""
    return on_bargains(session, plan, units) if session.speed.steps else plan


def choose_steps(session: Session, steps: bool) -> None:
    """Whether the master and presets end on bargains; what is on screen steps on them now."""
    session.speed.steps = steps
    if steps:
        step_on_bargains(session)
