"""Rates from a goal, in one row: what is to be cut or may be lost, and in a sentence what was found, and why."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import streamlit as st

from fpgm_core.allocation import COSTS
from fpgm_core.lesson import Words
from pages.ui.panels.plan_list import rung_title
from pages.ui.panels.why import why_button
from pages.ui.session.links import current_session
from pages.ui.session.networks import why_unmeasured
from pages.ui.session.session import Session
from pages.ui.session.solving import LOSS, SEARCH, SOLVE, Solving, ask, take_solution
from pages.ui.session.widgets import callback

_EVERY = 1.0  # seconds


def goal_row(session: Session) -> None:
    """The goal with its button, and beside it what came of it; before that, what the page shows."""
    words = session.words
    with st.container(key="goal", horizontal=True, vertical_alignment="center", gap="small"):
        _goal(session, words)
        with st.container(key="intro", width="stretch"):
            _told(session, words)
        why_button(session, words)


def take_what_was_solved(session: Session) -> None:
    """Put on the bars what was found since the page was last drawn."""
    words = session.words
    take_solution(session, doing=words("goal.searching", network=session.network.title))


def _goal(session: Session, words: Words) -> None:
    """What is asked for, and Solve."""
    network = session.network
    kind = st.selectbox(
        words("goal.kind"), [*COSTS, LOSS], format_func=partial(_kind_words, words), key="goal_kind", width=172,
        label_visibility="collapsed", persist_state="session", help=words("goal.help"),
    )  # fmt: skip
    low, high, first, step = (0.1, 50.0, 2.0, 0.5) if kind == LOSS else (1.0, 99.0, 50.0, 5.0)
    amount = st.number_input(
        words("goal.points" if kind == LOSS else "goal.percent"), low, high, first, step, key=f"goal_amount:{kind}",
        width=112, format="%g", label_visibility="collapsed", persist_state="session",
    )  # fmt: skip
    can = why_unmeasured(network) is None
    st.button(
        words("goal.solve"),
        key="solve",
        type="primary",
        disabled=not can or session.jobs.get(SOLVE) in _running(session),
        help=None if can else words("goal.only_trained"),
        on_click=callback(lambda session: _ask(session, kind, amount / 100)),
    )


def _running(session: Session) -> Sequence[object]:
    return [entry.job for entry in session.jobs.under_way.values()]


def _kind_words(words: Words, kind: str) -> str:
    return words("goal.lose") if kind == LOSS else words("goal.cut", what=words.of(COSTS[kind]))


def _ask(session: Session, kind: str, amount: float) -> None:
    words = session.words
    ask(session, kind, amount, doing=words("goal.solving", goal=_goal_told(kind, amount, words)))


def _goal_told(kind: str, amount: float, words: Words) -> str:
    name = "goal.asked_loss" if kind == LOSS else "goal.asked_cut"
    return words(name, amount=100 * amount, what=words.of(COSTS[kind]) if kind != LOSS else "")


def _told(session: Session, words: Words) -> None:
    """What was found, told anew while the search goes on; what one sees here where nothing was asked for."""
    searching = session.jobs.get(SEARCH)
    going_on = searching is not None and not searching.done

    @st.fragment(run_every=_EVERY if going_on else None)
    def watch() -> None:
        session = current_session()
        solving, job = session.solving, session.jobs.get(SEARCH)
        if solving is None or solving.start is None:
            st.markdown(words("explore.intro"))
            return
        if job is not None and not job.done:
            take_what_was_solved(session)
        st.markdown(_sentence(session.solving or solving, words, going_on=job is not None and not job.done))
        _back(session, solving, words, going_on=job is not None and not job.done)

    watch()


def _back(session: Session, solving: Solving, words: Words, *, going_on: bool) -> None:
    """The way to the best plan found, where the bars stand elsewhere by now."""
    best = solving.best
    if best is None or going_on or session.state.plan == best.plan:
        return
    show = callback(lambda session: session.change(plan=best.plan))
    st.button(words("goal.back"), key="best_found", on_click=show, type="tertiary")


def _sentence(solving: Solving, words: Words, *, going_on: bool) -> str:
    """What was found and how: predicted, then measured, and what the search gained."""
    start, found, asked = solving.start, solving.found, solving.asked
    assert start is not None
    (cost,) = start.reached
    said = words(
        "goal.found", cut=start.reached[cost], loss=start.predicted, goal=_goal_told(asked.kind, asked.amount, words)
    )  # fmt: skip
    if found is None or found.start.measurement is None or found.best.measurement is None:
        return f"{said} {words('goal.to_search') if going_on else ''}".strip()
    images, rung = found.start.measurement.num_images, rung_title(asked.method, words)
    first, gain = found.start.measurement.accuracy.value, found.gain
    said += f" {words('goal.first', rung=rung, accuracy=first, images=images)} "
    if found.best.plan == found.start.plan:
        return said + words("goal.none_yet" if going_on else "goal.none_better", count=found.num_measured)
    told = {"count": found.num_measured, "accuracy": found.best.measurement.accuracy.value, "gain": gain.told(100)}
    return said + words("goal.gains" if going_on else "goal.gained", **told)
