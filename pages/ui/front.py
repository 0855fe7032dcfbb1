"""The view Front of the page Choose: what every goal comes to, by several ways to allocate; the bars ride along it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import streamlit as st

from fpgm_core import Network, Plan
from fpgm_core.allocation import ALLOCATORS, CUTS, STUDY, Front, front_work
from fpgm_core.data import load_images
from fpgm_core.evaluation import History, HistoryEntry
from fpgm_core.figures import TracePoint, front_figure
from fpgm_core.lesson import Words
from fpgm_core.recovery import get_recovery_method, usual_rung
from fpgm_core.runtime.progress import Work, within
from pages.ui.components.telling import plain
from pages.ui.panels.pictures import cached_figure, clicked_index, labels_of
from pages.ui.panels.plan_list import comparable_entries, dense_point, point_of
from pages.ui.session.networks import network_key, why_unmeasured
from pages.ui.session.session import Session, callback, current_session
from pages.ui.session.solving import losses_work

SEEDS = 3  # draws of the random control
_JOB, _CHART, _RIDE = "front", "front_chart", "front_ride"
_CONTROL, _OWN = "random", "solved"
_BESIDE = ("uniform", "by_stage", "within_loss", _CONTROL)
_MOST = 2000  # entries that are looked through
_EVERY = 1.5  # seconds


def front_view(session: Session) -> None:
    """The points that are known, drawn as they come; the goals are measured when that is asked for."""
    network, words = session.network, session.words
    if (why := why_unmeasured(network)) is not None:
        st.warning(words("choose.unmeasured", why=words.phrase(why)))
        return
    left, right = st.columns([2.4, 1], gap="medium")
    with right:
        _controls(session, words)
    with left:
        _pictures(session)


def rung_of(session: Session) -> str:
    """The rung that the page's measurements stand on: that of Explore, or the usual one where that trains."""
    method = session.state.method
    return usual_rung(session.network) if get_recovery_method(method).trains else method


def _controls(session: Session, words: Words) -> None:
    """What is measured, and the button that begins it."""
    rung = words.of(get_recovery_method(rung_of(session))).lower()
    st.caption(words("front.about", goals=len(CUTS), rung=rung))
    others = [name for name in ALLOCATORS if name != _OWN]
    beside = st.multiselect(
        words("front.beside"), others, default=[name for name in _BESIDE if name in others], key="front_beside",
        format_func=lambda name: words.of(ALLOCATORS[name]), persist_state="session",
    )  # fmt: skip
    job = session.jobs.get(_JOB, _key(session))
    if job is not None and job.error:
        st.error(plain(words.phrase(job.error)))
    begin = callback(lambda session: _begin(session, (_OWN, *beside)))
    is_running = job is not None and not job.done
    st.button(words("front.measure"), key="begin_front", type="primary", on_click=begin, disabled=is_running)
    if job is not None and job.result is not None and job.result.impossible:
        told = sorted({f"{words.of(ALLOCATORS[name])} {cut:.0%}" for name, cut in job.result.impossible})
        st.caption(words("front.impossible", goals=", ".join(told)))


def _key(session: Session) -> Hashable:
    bare = replace(session.state.plan, rates={})
    return (_JOB, session.token, *network_key(session.network), bare.key, rung_of(session))


def _begin(session: Session, allocators: Sequence[str]) -> None:
    network, plan, words = session.network, session.state.plan, session.words
    work = partial(
        _front_work, network, plan, allocators=allocators, method=rung_of(session), history=session.kept_plans
    )
    session.jobs.cancel(_JOB)  # others may be asked for beside it
    session.jobs.start(_JOB, work, key=_key(session), title=words("front.measuring", network=network.title))


def _front_work(
    network: Network, plan: Plan, *, allocators: Sequence[str], method: str, history: History
) -> Work[Front]:
    priced = yield from within(losses_work(network, plan), 0, 0.2)
    training, choose = (load_images(network.dataset, split) for split in ("train", "choose"))
    work = front_work(
        priced.prepared, choose, training, allocators=allocators, seeds=SEEDS, method=method, history=history
    )
    return (yield from within(work, 0.2))


def _known(session: Session) -> dict[str, list[HistoryEntry]]:
    """The points of the front that were measured, by allocator, MACs falling; under "" the other plans tried."""
    like, method = _likeness(session.state.plan), rung_of(session)
    found: dict[str, list[HistoryEntry]] = {name: [] for name in (_OWN, *ALLOCATORS)}
    for entry in sorted(comparable_entries(session, _MOST), key=lambda entry: -entry.macs):
        what, _, rest = entry.study.partition(" ")
        allocator = rest.partition(" ")[0]
        if what == STUDY and allocator in found and entry.method == method and _likeness(entry.plan) == like:
            found[allocator].append(entry)
        elif not what and entry.method == method:
            found.setdefault("", []).append(entry)
    return {name: entries for name, entries in found.items() if entries}


def _likeness(plan: Plan) -> tuple[object, ...]:
    """All of a plan but its rates."""
    return plan.criterion, plan.coupling, plan.options, plan.locked_in, plan.locked_out


def _pictures(session: Session) -> None:
    """The chart, and below it the way along the front; drawn anew as points come."""
    job = session.jobs.get(_JOB, _key(session))
    running = job is not None and not job.done

    @st.fragment(run_every=_EVERY if running else None)
    def watch() -> None:
        session = current_session()
        known = _known(session)
        _chart(session, known)
        _ride(session, known.get(_OWN, []))

    watch()


def _chart(session: Session, known: Mapping[str, Sequence[HistoryEntry]]) -> None:
    words, entries = session.words, [entry for found in known.values() for entry in found]
    titles = {name: words.of(ALLOCATORS[name]) if name else labels_of(words)["tried"] for name in known}
    series = {titles[name]: [point_of(entry, words) for entry in found] for name, found in known.items()}
    dense = dense_point(entries, words) if entries else _unmeasured(session)
    if dense is None:
        st.skeleton(height=380)
        return
    current = next((place for place, entry in enumerate(entries) if entry.plan == session.state.plan), None)
    lone = tuple(titles[name] for name in (_CONTROL, "") if name in titles)
    key = ("front", current, dense, lone, *((name, *points) for name, points in series.items()))
    ids = [entry.id for entry in entries]
    st.plotly_chart(
        cached_figure(key, lambda: front_figure(series, dense, lone=lone, current=current, labels=labels_of(words))),
        key=_CHART,
        alt=words("front.alt"),
        on_select=callback(lambda session: _show_clicked(session, ids)),
        selection_mode="points",
        config={"displayModeBar": False},
    )
    st.caption(words("front.caption"))


def _unmeasured(session: Session) -> TracePoint | None:
    """The dense network alone, where nothing else was measured yet; None until that is."""
    measured = session.measurement
    if measured is None:
        return None
    title = labels_of(session.words)["dense"]
    return TracePoint(title, session.network.dense_cost.macs, measured.dense_accuracy)


def _show_clicked(session: Session, ids: Sequence[int]) -> None:
    place = clicked_index(_CHART, len(ids))
    if place is not None:
        session.change(plan=session.kept_plans.entry(ids[place]).plan)


def _ride(session: Session, solved: Sequence[HistoryEntry]) -> None:
    """A handle along the solved plans: the bars follow it."""
    if len(solved) < 2:
        return
    plans = {entry.id: entry for entry in solved}
    now = next((entry.id for entry in solved if entry.plan == session.state.plan), None)
    key = f"{_RIDE}:{now}:{len(plans)}"
    st.select_slider(
        session.words("front.ride"),
        list(plans),
        value=now or next(iter(plans)),
        key=key,
        format_func=lambda number: _ride_words(plans[number]),
        on_change=callback(lambda session: session.change(plan=plans[st.session_state[key]].plan)),
    )


def _ride_words(entry: HistoryEntry) -> str:
    return f"−{1 - entry.macs / entry.dense_macs:.0%}: {entry.accuracy.value:.1%}"
