"""The bars and the three figures above them: all that changes while a bar is dragged or a plan is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import takewhile

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from fpgm_core import FpgmError, Network, Plan
from fpgm_core.graph import Unit
from fpgm_core.lesson import Words
from fpgm_core.pruning import allowed_percents, pruned_counts, stage_of
from pages.ui.components.equaliser import Bar, Move, equaliser, read_move, read_tick
from pages.ui.components.incoming import sent
from pages.ui.components.telling import told
from pages.ui.panels.figures import draw_figures
from pages.ui.panels.refit import damage, strips
from pages.ui.panels.speed import marks, stairs_told
from pages.ui.panels.why import price_words, prices_of
from pages.ui.session.jobs import device_worker
from pages.ui.session.links import current_session, share
from pages.ui.session.networks import network_key, why_unmeasured
from pages.ui.session.session import Session

KEY = "equaliser"
# A poll costs the browser tens of milliseconds, on cores that measure: so the answer waits a little for news.
POLL_FIRST, POLL_RUNNING = 30, 500  # milliseconds
PATIENCE = 0.25  # seconds
_SHORT = {"conv": "c", "features.": "f", "expand": "ex", "depthwise": "dw", "project": "pr"}


def take_move(session: Session) -> bool:
    """Act on the equaliser's newest message, if it is new; True where the bar has come to rest."""
    units = session.network.units(session.state.plan.coupling)
    move = read_move(sent(KEY, "move"), {unit.name for unit in units})
    if move is None or move.seq <= session.echo:
        return False
    session.echo = move.seq
    if not move.rest:
        _drag(session, move)
        return False
    session.rest(move.rates, move.chosen)
    return True


def _drag(session: Session, move: Move) -> None:
    """Show what the plan under the hand costs; measuring waits until it rests."""
    try:
        draft = session.state.plan.with_rates(move.rates)
        session.network.cost(draft)
    except FpgmError as error:
        session.message = told(error)
        return
    if draft != session.plan:  # a bar that is only touched leaves the measurement alone
        session.stop_measuring()
    session.draft, session.held, session.message = draft, move.chosen, None


def _is_poll(session: Session) -> bool:
    """Whether this run is the bars polling for the measurement, not a person's doing."""
    tick = read_tick(sent(KEY, "tick"))
    is_new, session.tick = tick != session.tick, tick
    return is_new


@st.fragment
def live_bars(
    accuracy: DeltaGenerator,
    macs: DeltaGenerator,
    params: DeltaGenerator,
    below: Callable[[Session], bool] = lambda session: False,
) -> None:
    """The equaliser, the three figures of the top bar, and what the bars are linked to, which `below` draws.

    The bars poll for the measurement, and for what `below` says that it waits for (as often as is worth it, which a
    fragment's timer cannot). Under the hand the figures go first, and the picture of a layer that nobody has looked at
    comes after them; when a bar comes to rest the first figure does, and the rest of the page is drawn after it.
    """
    session = current_session()
    told = tuple(session.jobs.under_way)  # what begins here is told of by the rest of the page
    session.redraw = take_move(session) or session.redraw
    is_poll = _is_poll(session)
    if is_poll:  # so the bars are on screen
        session.begin()
    job = session.measuring
    if is_poll and job is not None:
        job.wait(PATIENCE)
    coming = session.unmeasured and why_unmeasured(session.network) is None
    waiting = coming or (job is not None and not job.has_news)
    place, picture = st.container(), st.container()

    def draw_bars() -> None:
        share(session.state)
        draw_figures(session, accuracy, macs, params)
        with place:
            _equaliser(session, poll_interval(session, coming, waiting))

    def draw_picture() -> bool:
        with picture:
            is_coming = below(session)
        is_news, session.picture_is_coming = is_coming != session.picture_is_coming, is_coming
        return is_news

    if session.is_moving:
        draw_bars()
        if draw_picture():
            st.rerun()  # the bars poll for it, or no more
    else:
        draw_picture()
        draw_bars()
    if session.has_new_result() or (session.redraw and not waiting) or tuple(session.jobs.under_way) != told:
        st.rerun()


def _equaliser(session: Session, poll: int) -> None:
    network, plan = session.network, session.plan
    unit = network.unit_of(session.layer_in_sight, plan.coupling)
    equaliser(
        bars(session),
        counts=_counts(network, plan),
        chosen=unit.name if unit else None,
        session=session.token,
        revision=session.revision,
        echo=session.echo,
        poll=poll,
        tick=session.tick,
        key=KEY,
        words=session.words.under("live"),
    )


def poll_interval(session: Session, coming: bool, waiting: bool) -> int:
    """After how many milliseconds the bars poll again, 0 for never; one `coming` lets the pictures go first.

    Where others' measurements come before this one's, after those: each poll draws the bars, on cores that measure.
    """
    job = session.measuring
    if not coming and (job is None or job.done):
        return POLL_RUNNING if session.picture_is_coming else 0
    interval = POLL_FIRST if waiting and not coming else POLL_RUNNING
    due = 0.0 if job is None or job.done else device_worker().due(job)
    return max(interval, round(1000 * due))


def bars(session: Session) -> list[Bar]:
    """What the equaliser shows of the plan on screen."""
    network, plan, words = session.network, session.plan, session.words
    share_of = {layer.name: layer.share for layer in network.layers}
    surface = damage(session)
    heat = (
        {} if surface is None else strips((*network_key(network), plan.criterion, plan.coupling, plan.options), surface)
    )
    units = network.units(plan.coupling)
    labels = short_names(tuple(unit.name for unit in units))

    prices, bargains, stairs = prices_of(session, plan), marks(session), stairs_told(session)
    priced = price_words(prices, words)

    def damage_words(unit: Unit) -> str:
        if surface is None or unit.name not in heat or unit.name in prices:
            return priced(unit.name)
        return words("live.damage", loss=f"{surface.at(unit.name, plan.rate(unit.name)):.1%}")

    found = []
    for unit in units:
        is_locked = unit.name in plan.locked_in or unit.name in plan.locked_out
        low, high = _room(plan, unit) if is_locked else (0.0, 1.0)
        found.append(
            Bar(
                name=unit.name,
                label=labels[unit.name],
                stage=stage_of(unit.name),
                kind=_kind(unit),
                size=unit.size,
                rate=plan.rate(unit.name),
                low=low,
                high=high,
                pruned=network.count_pruned(plan, unit),
                share=sum(share_of[member] for member in unit.members),
                members=len(unit.members),
                locks=is_locked,
                agreement=_agreement(network, plan, unit, words),
                damage=damage_words(unit),
                heat=heat.get(unit.name, ""),
                speed=stairs.get(unit.name, ""),
                marks=bargains.get(unit.name, ()),
            )
        )
    return found


def _room(plan: Plan, unit: Unit) -> tuple[float, float]:
    """The lowest and the highest rate that a unit's locks leave room for, in whole percents; its own is one too."""
    rates = [plan.rate(unit.name), *(percent / 100 for percent in allowed_percents(plan, unit))]
    return min(rates), max(rates)


def _kind(unit: Unit) -> str:
    """What decides how many filters a rate prunes, beside the plan."""
    return f"{unit.size}:{unit.blocks}"


def _counts(network: Network, plan: Plan) -> dict[str, tuple[int, ...]]:
    """How many filters each kind of unit loses at every whole percent."""
    units = {_kind(unit): unit for unit in network.units(plan.coupling)}
    return {kind: pruned_counts(plan, unit) for kind, unit in units.items()}


@lru_cache(maxsize=64)
def short_names(names: Sequence[str]) -> dict[str, str]:
    """Units' names without what all of them begin or end with, part by part, and in short: "3.2.c1"."""
    parts = [name.split(".") for name in names]
    first = _common(parts)
    last = _common([part[first:][::-1] for part in parts])
    short = {}
    for name, part in zip(names, parts, strict=True):
        text = ".".join(part[first : len(part) - last] or part[-1:]).removeprefix("layer")
        for word, abbreviation in _SHORT.items():
            text = text.replace(word, abbreviation)
        short[name] = text
    return short if len(set(short.values())) == len(names) else dict(zip(names, names, strict=True))


def _common(rows: Sequence[Sequence[str]]) -> int:
    """With how many equal parts all rows begin; none where there is but one."""
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*rows, strict=False))) * (len(rows) > 1)


def _agreement(network: Network, plan: Plan, unit: Unit, words: Words) -> str:
    """Norm against FPGM on a unit: rank correlation of the scores, and what the pruned sets share at its rate."""
    rho, shared = network.agreement(unit), network.overlap(plan, unit)
    text = words("live.agreement", rho="–" if rho is None else f"{rho:.2f}")
    return text if shared is None else f"{text}, {words('live.shared', shared=f'{shared:.0%}')}"
