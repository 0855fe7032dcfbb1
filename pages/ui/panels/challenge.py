"""Step 8 of the lesson: make a plan, hand it in, and have the sealed half judge it."""

from __future__ import annotations

from functools import partial

import pandas as pd
import streamlit as st

from fpgm_core.lesson import TARGET, Judged, Words, cut_of, judge_steps
from fpgm_core.pruning import PRESETS
from fpgm_core.recovery import RECOVERY_METHODS
from pages.ui.session.lesson_state import LessonState, link
from pages.ui.panels.bars import live_panel, set_preset, take_move
from pages.ui.session.session import Session, mirror
from pages.ui.session.work_status import awaited


def challenge(session: Session, held: LessonState, words: Words) -> None:
    """The bars with their figures, the rung, and what was handed in."""
    take_move(session)
    session.redraw = False
    session.remember()
    slots = [column.empty() for column in st.columns([2, 1, 1])]
    live_panel(slots[0], slots[1], slots[2], words.under("live"))
    if not held.bare:
        _controls(session, words)
    cut = cut_of(session.network, session.state.plan)
    state, button = st.columns([2.2, 1], vertical_alignment="center")
    enough = cut >= TARGET and session.network.trained
    state.markdown(words("challenge.ready" if cut >= TARGET else "challenge.not_yet", cut=cut))
    asked = (session.state.plan.key, session.state.method)
    button.button(words("challenge.hand_in"), key="hand_in", type="primary", width="stretch", disabled=not enough,
                  on_click=lambda: st.session_state.update(handed=asked))  # fmt: skip
    if st.session_state.get("handed") == asked and enough:
        _judge(session, words)
    _attempts(words)
    with st.expander(words("challenge.share")):
        st.code(f"?{'&'.join(f'{name}={value}' for name, value in link(held, session.state).items())}", language=None,
            wrap_lines=True)  # fmt: skip


def _controls(session: Session, words: Words) -> None:
    """One rate for all to begin with, and the rung."""
    preset, rung = st.columns([1, 2], vertical_alignment="bottom")
    uniform = [name for name in PRESETS if name.startswith("uniform")]
    preset.selectbox(
        words("challenge.begin"),
        ["", *uniform],
        format_func=lambda name: name.removeprefix("uniform_") or "–",
        **mirror("challenge-preset", "", set_preset, str(session.revision)),
    )
    rung.segmented_control(
        words("cost.method"),
        list(RECOVERY_METHODS),
        required=True,
        format_func=lambda name: words(f"rung.{name}"),
        **mirror("challenge-rung", session.state.method, lambda session, wanted: session.change(rung=wanted)),
    )


def _judge(session: Session, words: Words) -> None:
    """Have the plan on screen judged, and keep the verdict."""
    plan, rung = session.state.plan, session.state.method
    steps = partial(judge_steps, session.network, plan, rung)
    labels = words("page.stop"), words("page.go_on")
    judged = awaited(session, ":judge", ("judge", plan.key, rung), steps, words("challenge.judging"), labels)
    if not isinstance(judged, Judged):
        return
    handed = st.session_state.setdefault("attempts", {})
    chosen = session.measured(rung)
    handed[plan.key, rung] = (judged, chosen.accuracy.value if chosen else None)
    change = judged.change
    kind = "tie" if not change.excludes_zero else "ahead" if change.value > 0 else "behind"
    st.info(
        words(
            f"challenge.verdict_{kind}",
            accuracy=judged.figure.accuracy.value,
            reference=judged.reference.accuracy.value,
            change=change.told(-100 if kind == "behind" else 100),
        )
    )
    if chosen:
        gap = judged.figure.accuracy.value - chosen.accuracy.value
        st.caption(words("challenge.gap", choose=chosen.accuracy.value, gap=gap * 100))


def _attempts(words: Words) -> None:
    """What was handed in during this sitting, in its order."""
    handed: dict[tuple[str, str], tuple[Judged, float | None]] = st.session_state.get("attempts", {})
    if not handed:
        return
    st.markdown(f"**{words('challenge.handed')}**")
    rows = list(handed.values())
    table = {
        words("challenge.attempt"): range(1, len(rows) + 1),
        words("cost.method"): [words(f"rung.{judged.method}") for judged, _ in rows],
        words("challenge.cut"): [round(judged.cut * 100, 1) for judged, _ in rows],
        words("challenge.choose"): [None if chosen is None else round(chosen * 100, 2) for _, chosen in rows],
        words("challenge.sealed"): [round(judged.figure.accuracy.value * 100, 2) for judged, _ in rows],
        words("challenge.against"): [judged.change.told(100) for judged, _ in rows],
    }
    st.dataframe(pd.DataFrame(table), hide_index=True)
