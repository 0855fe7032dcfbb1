"""Milliseconds on Explore: the machine that is asked about, what is predicted, and which counts are bargains."""

from __future__ import annotations

import streamlit as st

from fpgm_core import Plan
from pages.ui.session.links import current_session
from pages.ui.session.session import Session
from pages.ui.session.speed import (
    JOB,
    begin_probe,
    choose_machine,
    choose_steps,
    machines,
    predictor,
    stairs,
    step_on_bargains,
    take_board,
    verdict,
)
from pages.ui.session.speed_state import NOWHERE
from pages.ui.session.widgets import callback, mirror

_BOARD = "board_file"


def speed_menu(session: Session) -> None:
    """The machine, the table of its times where that is not made yet, bargains, and another board's file."""
    words, names = session.words, machines(session)
    st.selectbox(
        words("speed.on"),
        [NOWHERE, *names],
        format_func=lambda name: names.get(name, words("speed.nowhere")),
        help=words("speed.help"),
        **mirror("speed", session.speed.on, choose_machine, "|".join(names)),
    )
    if session.speed.on != NOWHERE:
        job = session.jobs.get(JOB)
        if predictor(session) is not None:
            st.button(words("speed.step"), key="bargains", help=words("speed.step_help"),
                      on_click=callback(step_on_bargains))  # fmt: skip
            st.toggle(
                words("speed.steps"),
                help=words("speed.steps_help"),
                **mirror("steps", session.speed.steps, choose_steps),
            )
        elif session.speed.on in session.speed.boards:
            st.caption(words("speed.other"))
        else:
            running = job is not None and not job.done
            st.button(words("speed.probe"), key="probe", help=words("speed.probe_help"), disabled=running,
                      on_click=callback(begin_probe))  # fmt: skip
            if job is not None and job.error:
                st.error(words.phrase(job.error))
    st.file_uploader(words("speed.board"), type="json", key=_BOARD, help=words("speed.board_help"), on_change=_take)


def _take() -> None:
    given = st.session_state.get(_BOARD)
    if given is not None:
        take_board(current_session(), given.getvalue(), given.name)


def speed_told(session: Session, plan: Plan) -> str:
    """The predicted milliseconds of a plan with their interval and the verdict; "" where none are predicted."""
    found = predictor(session, plan.coupling)
    if found is None:
        return ""
    pruned = session.network.prune(plan)
    ms = found.dense if pruned.prunes_nothing else found.ms(pruned)
    said = session.words("speed.ms", ms=ms.value, low=ms.low, high=ms.high)
    if pruned.prunes_nothing:
        return said
    return f"{said}, {session.words(f'speed.{verdict(found, pruned)}')}"


def marks(session: Session) -> dict[str, tuple[float, ...]]:
    """The rates at which each unit's counts are bargains, by name."""
    return {
        name: tuple(float(count) / one.size for count in one.counts[one.bargains])
        for name, one in stairs(session).items()
    }


def stairs_told(session: Session) -> dict[str, str]:
    """What the stairs say of units' counts at rest, by name: more filters would cost nothing, or it is a bargain."""
    known = stairs(session)
    if not known:
        return {}
    network, plan, words, told = session.network, session.state.plan, session.words, dict[str, str]()
    for unit in network.units(plan.coupling):
        one, pruned = known.get(unit.name), network.count_pruned(plan, unit)
        if one is None:
            continue
        better = one.better(pruned)
        if better is not None:
            told[unit.name] = words("speed.better", kept=unit.size - pruned, more=unit.size - better)
        elif pruned in one.counts[one.bargains]:
            told[unit.name] = words("speed.bargain", kept=unit.size - pruned)
    return told
