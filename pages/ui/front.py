"""The view Front of the page Choose: what every goal comes to, by several ways to allocate; the bars ride along it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import cycle

import pandas as pd
import streamlit as st

from fpgm_core import Network, Plan
from fpgm_core.allocation import ALLOCATORS, CUTS, STUDY, Front, front_work
from fpgm_core.data import load_images
from fpgm_core.evaluation import History, HistoryEntry
from fpgm_core.figures import SERIES
from fpgm_core.lesson import Words
from fpgm_core.recovery import get_recovery_method, usual_rung
from fpgm_core.runtime.progress import Work, within
from pages.ui.components.along import Line, Mark, along, read_ride
from pages.ui.components.incoming import sent
from pages.ui.components.telling import plain
from pages.ui.panels.pictures import labels_of
from pages.ui.panels.plan_list import comparable_entries, dense_point, point_of
from pages.ui.panels.trust import trust_caption
from pages.ui.session.jobs import Job
from pages.ui.session.networks import network_key, why_unmeasured
from pages.ui.session.session import Session
from pages.ui.session.solving import losses_work
from pages.ui.session.widgets import callback

SEEDS = 3  # draws of the random control
KEY = "along"
_JOB, _ECHO = "front", "ride_echo"
_CONTROL, _OWN, _TRIED = "random", "solved", ""
_BESIDE = ("uniform", "by_stage", "within_loss", _CONTROL)
_SYMBOLS = ("circle", "diamond", "square", "triangle", "cross")
_QUIET = "#8a8f98"
_MOST = 2000  # entries that are looked through


def take_ride(session: Session) -> bool:
    """Act on what a hand does on the chart, if that is new; True where it came to rest."""
    ride = read_ride(sent(KEY, "ride"))
    if ride is None or ride.seq <= st.session_state.get(_ECHO, 0):
        return False
    st.session_state[_ECHO] = ride.seq
    plan = next((entry.plan for entry in _comparable(session) if entry.id == ride.number), None)
    if plan is None:
        return False
    if ride.rest:
        session.change(plan=plan)
    else:
        session.try_on(plan)
    return ride.rest


def front_chart(session: Session) -> bool:
    """The points that are known, drawn as they come; whether more are on the way."""
    session.redraw = take_ride(session) or session.redraw
    job, words = _job(session), session.words
    if why_unmeasured(session.network) is not None:
        return False
    known = _known(session)
    entries = [entry for found in known.values() for entry in found]
    dense = dense_point(entries, words).accuracy.value if entries else dense_of(session)
    labels = labels_of(words)
    along(
        _lines(known, words),
        dense=None if dense is None else 100 * dense,
        current=next((entry.id for entry in entries if entry.plan == session.plan), None),
        session=session.token,
        echo=st.session_state.get(_ECHO, 0),
        key=KEY,
        words={
            "label": words("front.alt"), "nothing": words("front.elsewhere"), "x": labels["macs_cut"],
            "y": labels["accuracy_on_choose"], "dense": "" if dense is None else words("live.dense", accuracy=dense),
        },
    )  # fmt: skip
    return job is not None and not job.done


def dense_of(session: Session) -> float | None:
    """The dense network's accuracy where no plan was measured yet; None until that is known of all images."""
    measured = session.measurement
    return measured.dense_accuracy.value if measured is not None and measured.state == "exact" else None


def front_view(session: Session) -> None:
    """What is measured for the front, the button that begins it, and the numbers behind the chart above."""
    network, words = session.network, session.words
    if (why := why_unmeasured(network)) is not None:
        st.warning(words("choose.unmeasured", why=plain(words.phrase(why))))
        return
    st.caption(words("front.caption"))
    trust_caption(session)
    job, others = _job(session), [name for name in ALLOCATORS if name != _OWN]
    with st.container(key="front", horizontal=True, vertical_alignment="bottom", gap="small"):
        beside = st.multiselect(
            words("front.beside"), others, default=[name for name in _BESIDE if name in others], key="front_beside",
            format_func=lambda name: words.of(ALLOCATORS[name]), persist_state="session", width=560,
        )  # fmt: skip
        begin = callback(lambda session: _begin(session, (_OWN, *beside)))
        is_running = job is not None and not job.done
        st.button(words("front.measure"), key="begin_front", type="primary", on_click=begin, disabled=is_running)
        st.caption(words("front.about", goals=len(CUTS), rung=words.of(get_recovery_method(rung_of(session))).lower()))
    if job is not None and job.error:
        st.error(plain(words.phrase(job.error)))
    if job is not None and job.result is not None and job.result.impossible:
        told = sorted({f"{words.of(ALLOCATORS[name])} {cut:.0%}" for name, cut in job.result.impossible})
        st.caption(words("front.impossible", goals=", ".join(told)))
    with st.expander(words("picture.numbers")):
        st.dataframe(_table(_known(session), words), hide_index=True, key="front_table")


def rung_of(session: Session) -> str:
    """The rung that the page's measurements stand on: that of Explore, or the usual one where that trains."""
    method = session.state.method
    return usual_rung(session.network) if get_recovery_method(method).trains else method


def _key(session: Session) -> Hashable:
    bare = replace(session.state.plan, rates={})
    return (_JOB, session.token, *network_key(session.network), bare.key, rung_of(session))


def _job(session: Session) -> Job[Front] | None:
    return session.jobs.get(_JOB, _key(session))


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
        priced.prepared, choose, training, cuts=CUTS, allocators=allocators, seeds=SEEDS, method=method, history=history
    )
    return (yield from within(work, 0.2))


def _comparable(session: Session) -> tuple[HistoryEntry, ...]:
    return comparable_entries(session, _MOST)


def _known(session: Session) -> dict[str, list[HistoryEntry]]:
    """The points of the front that were measured, by allocator, MACs falling; then the other plans tried."""
    like, method = _likeness(session.state.plan), rung_of(session)
    found: dict[str, list[HistoryEntry]] = {name: [] for name in (_OWN, *ALLOCATORS, _TRIED)}
    for entry in sorted(_comparable(session), key=lambda entry: -entry.macs):
        what, _, rest = entry.study.partition(" ")
        allocator = rest.partition(" ")[0] if what == STUDY else _TRIED
        if allocator in found and entry.method == method and (not allocator or _likeness(entry.plan) == like):
            found[allocator].append(entry)
    return {name: entries for name, entries in found.items() if entries}


def _likeness(plan: Plan) -> tuple[object, ...]:
    """All of a plan but its rates."""
    return plan.criterion, plan.coupling, plan.options, plan.locked_in, plan.locked_out


def _title(allocator: str, words: Words) -> str:
    return words.of(ALLOCATORS[allocator]) if allocator else labels_of(words)["tried"]


def _lines(known: Mapping[str, Sequence[HistoryEntry]], words: Words) -> list[Line]:
    """A line for each way to allocate; random draws and plans tried are points by themselves."""
    styles = cycle(zip(SERIES, _SYMBOLS, strict=False))
    lines = []
    for name, entries in known.items():
        by_itself = name in (_CONTROL, _TRIED)
        colour, symbol = (_QUIET, "ring" if name else "times") if by_itself else next(styles)
        marks = [_mark(entry, words) for entry in entries]
        lines.append(Line(_title(name, words), colour, symbol, not by_itself, marks))
    return lines


def _mark(entry: HistoryEntry, words: Words) -> Mark:
    accuracy, cut = entry.accuracy, 100 * (1 - entry.macs / entry.dense_macs)
    label = f"{point_of(entry, words).label} · −{cut:.1f}% MACs · {accuracy.value:.2%}"
    return Mark(entry.id, cut, 100 * accuracy.value, 100 * accuracy.low, 100 * accuracy.high, label)


def _table(known: Mapping[str, Sequence[HistoryEntry]], words: Words) -> pd.DataFrame:
    rows = [(name, entry) for name, entries in known.items() for entry in entries]
    return pd.DataFrame(
        {
            words("front.column_by"): [_title(name, words) for name, _ in rows],
            words("sheet.macs_cut"): [round(100 * (1 - entry.macs / entry.dense_macs), 2) for _, entry in rows],
            words("sheet.accuracy"): [round(100 * entry.accuracy.value, 2) for _, entry in rows],
            words("sheet.change"): [entry.change.told(100) for _, entry in rows],
        }
    )
