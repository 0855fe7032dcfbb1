"""The bars and the three figures above them: all that changes while a bar is dragged or a plan is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from fpgm_core import FpgmError, Network, Plan
from fpgm_core.graph import Unit
from fpgm_core.pruning import stage_of
from pages.ui.components.cards import accuracy_card, macs_card, params_card
from pages.ui.components.equaliser import Bar, equaliser, read_move
from pages.ui.components.labels import LABELS
from pages.ui.panels.refit import damage, strips
from pages.ui.session.jobs import device_worker
from pages.ui.session.session import Session, current_session, share

KEY = "equaliser"
# A poll costs the browser tens of milliseconds, on cores that measure: so the answer waits a little for news.
POLL_FIRST, POLL_RUNNING = 30, 500  # milliseconds
POLL_SHARE = 40  # milliseconds for every measurement under way: many sessions together poll no oftener than one
PATIENCE = 0.25  # seconds
_SHORT = {"conv": "c", "features.": "f", "expand": "ex", "depthwise": "dw", "project": "pr"}


def take_move(session: Session) -> bool:
    """Act on the equaliser's newest message, if it is new; True where the bar has come to rest."""
    units = session.network.units(session.state.plan.coupling)
    message = (st.session_state.get(KEY) or {}).get("move")
    move = read_move(message, [unit.name for unit in units])
    if move is None or move.seq <= session.echo:
        return False
    session.echo = move.seq
    if not move.rest:
        _drag(session, move.rates)
        return False
    state = session.state
    layer = move.chosen or state.layer
    chosen = state.chosen if layer == state.layer else None
    session.go(replace(state, plan=state.plan.with_rates(move.rates), layer=layer, chosen=chosen), by_equaliser=True)
    return True


def _drag(session: Session, rates: Mapping[str, float]) -> None:
    """Show what the plan under the hand costs; measuring waits until it rests."""
    session.stop_measuring()
    try:
        draft = session.state.plan.with_rates(rates)
        session.network.cost(draft)
    except FpgmError as error:
        session.message = str(error)
        return
    session.draft, session.message = draft, None


def _is_poll(session: Session) -> bool:
    """Whether this run is the bars polling for the measurement, not a person's doing."""
    tick = (st.session_state.get(KEY) or {}).get("tick")
    is_new, session.tick = tick != session.tick, tick
    return is_new


@st.fragment
def live_bars(
    accuracy: DeltaGenerator, macs: DeltaGenerator, params: DeltaGenerator, words: Mapping[str, str] = LABELS
) -> None:
    """The equaliser and the three figures of the top bar.

    The bars poll for the measurement (as often as is worth it, which a fragment's timer cannot). When a bar comes to
    rest the first figure goes first: the rest of the page is drawn after it.
    """
    session = current_session()
    session.redraw = take_move(session) or session.redraw
    is_poll = _is_poll(session)
    if is_poll:  # so the bars are on screen
        session.begin()
    job = session.measuring
    if is_poll and job is not None:
        job.wait(PATIENCE)
    share(session.state)
    _draw_cards(session, accuracy, macs, params, words)
    network, plan = session.network, session.plan
    unit = network.unit_of(session.state.layer, plan.coupling)
    coming = session.unmeasured and network.trained
    waiting = coming or (job is not None and not job.has_news)
    equaliser(
        bars(session, words),
        chosen=unit.name if unit else None,
        revision=session.revision,
        echo=session.echo,
        poll=_poll_interval(session, coming, waiting),
        tick=session.tick,
        key=KEY,
        words=words,
    )
    if session.has_new_result() or (session.redraw and not waiting):
        st.rerun()


def _draw_cards(
    session: Session, accuracy: DeltaGenerator, macs: DeltaGenerator, params: DeltaGenerator, words: Mapping[str, str]
) -> None:
    network, job = session.network, session.measuring
    cost, dense = network.cost(session.plan), network.dense_cost
    accuracy.html(
        accuracy_card(
            session.measurement,
            refitted=session.refitted,
            error=job.error if job else None,
            moving=session.draft is not None,
            trained=network.trained,
            words=words,
        )
    )
    macs.html(macs_card(cost, dense, words))
    params.html(params_card(cost, dense, words))


def _poll_interval(session: Session, coming: bool, waiting: bool) -> int:
    """After how many milliseconds the bars poll again, 0 for never; one `coming` lets the pictures go first."""
    job = session.measuring
    if not coming and (job is None or job.done):
        return 0
    interval = POLL_FIRST if waiting and not coming else POLL_RUNNING
    return max(interval, POLL_SHARE * (device_worker().under_way - 1))


def bars(session: Session, words: Mapping[str, str] = LABELS) -> list[Bar]:
    """What the equaliser shows of the plan on screen."""
    network, plan = session.network, session.plan
    share_of = {layer.name: layer.share for layer in network.layers}
    surface = damage(session)
    heat = {} if surface is None else strips((plan.fingerprint, plan.criterion, plan.coupling, plan.options), surface)

    def damage_words(unit: Unit) -> str:
        if surface is None or unit.name not in heat:
            return ""
        return words["damage"].format(loss=f"{surface.at(unit.name, plan.rate(unit.name)):.1%}")

    return [
        Bar(
            name=unit.name,
            label=_label(unit),
            stage=stage_of(unit.name),
            size=unit.size,
            rate=plan.rate(unit.name),
            pruned=network.count_pruned(plan, unit),
            share=sum(share_of[member] for member in unit.members),
            members=len(unit.members),
            locks=unit.name in plan.locked_in or unit.name in plan.locked_out,
            agreement=_agreement(network, plan, unit, words),
            damage=damage_words(unit),
            heat=heat.get(unit.name, ""),
        )
        for unit in network.units(plan.coupling)
    ]


def _label(unit: Unit) -> str:
    """A unit's name as short as a bar is wide: "3.2.c1" of "layer3.2.conv1"."""
    name = unit.name.removeprefix("layer")
    for word, short in _SHORT.items():
        name = name.replace(word, short)
    return name


def _agreement(network: Network, plan: Plan, unit: Unit, words: Mapping[str, str]) -> str:
    """Norm against FPGM on a unit: rank correlation of the scores, and what the pruned sets share at its rate."""
    rho, shared = network.agreement(unit), network.overlap(plan, unit)
    text = words["agreement"].format(rho="–" if rho is None else f"{rho:.2f}")
    return text if shared is None else f"{text}, {words['shared'].format(shared=f'{shared:.0%}')}"
