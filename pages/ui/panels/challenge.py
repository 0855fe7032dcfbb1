"""Step 10 of the lesson: make a plan, hand it in against a reference, and report it on the sealed half once."""

from __future__ import annotations

from functools import partial

import pandas as pd
import streamlit as st

from fpgm_core import FpgmError
from fpgm_core.lesson import TARGET_CUT, Verdict, Words, judge_work, macs_cut
from fpgm_core.pruning import PRESETS, Network, Plan
from fpgm_core.recovery import ladder
from fpgm_core.runtime.progress import Work
from pages.ui.panels.live_bars import live_bars, take_move
from pages.ui.panels.rate_controls import set_preset
from pages.ui.panels.sealed import sealed_report
from pages.ui.session.lesson_state import LessonState, link
from pages.ui.session.networks import images_of, network_key, why_unmeasured
from pages.ui.session.session import Session
from pages.ui.session.widgets import menu, mirror
from pages.ui.session.work_status import result_of


def challenge(session: Session, lesson: LessonState, words: Words) -> None:
    """The bars with their figures, the recovery method, and what was handed in."""
    take_move(session)
    session.redraw = False
    session.record()
    accuracy, macs, params = st.columns([2, 1, 1])
    live_bars(accuracy, macs, params)
    _controls(session, words)
    cut = macs_cut(session.network.prune(session.state.plan))
    state, button = st.columns([2.2, 1], vertical_alignment="center")
    enough = cut >= TARGET_CUT and why_unmeasured(session.network) is None
    state.markdown(words("challenge.ready" if cut >= TARGET_CUT else "challenge.not_yet", cut=cut))
    attempt = (session.state.plan.key, session.state.method)
    button.button(
        words("challenge.hand_in"),
        key="hand_in",
        type="primary",
        width="stretch",
        disabled=not enough,
        on_click=lambda: st.session_state.update(handed_in=attempt),
    )
    if st.session_state.get("handed_in") == attempt and enough:
        _judge(session, words)
    _attempts(words)
    with st.expander(words("challenge.share")):
        query = "&".join(f"{name}={value}" for name, value in link(lesson, session.state).items())
        st.code(f"?{query}", language=None, wrap_lines=True)


def _controls(session: Session, words: Words) -> None:
    """One rate for all units to begin with, and the recovery method."""
    preset, method = st.columns([1, 2], vertical_alignment="bottom")
    uniform = [name for name in PRESETS if name.startswith("uniform")]
    preset.selectbox(
        words("challenge.begin"),
        ["", *uniform],
        format_func=lambda name: name.removeprefix("uniform_") or "–",
        **menu("challenge-preset", "", set_preset, str(session.revision)),
    )
    method.segmented_control(
        words("cost.rung"),
        list(ladder(session.network)),
        required=True,
        format_func=lambda name: words(f"rung.{name}"),
        **mirror("challenge-method", session.state.method, lambda session, name: session.change(method=name)),
    )


def _judge_work(network: Network, plan: Plan, method: str) -> Work[Verdict]:
    choose, training = images_of(network, "choose"), images_of(network, "train")
    if choose is None:
        raise FpgmError(f"there are no images here to judge {network.title} on")
    return judge_work(network.prune(plan), choose, method=method, training=training)


def _judge(session: Session, words: Words) -> None:
    """Have the plan on screen judged, and keep the verdict."""
    plan, method = session.state.plan, session.state.method
    judged = result_of(
        session,
        "judge",
        partial(_judge_work, session.network, plan, method),
        key=("judge", *network_key(session.network), plan.key, method),
        doing=words("challenge.judging"),
        page="Learn",
    )
    if judged is None:
        return
    st.session_state.setdefault("attempts", {})[plan.key, method] = judged
    _verdict(judged, words)
    sealed_report(session)


def _verdict(judged: Verdict, words: Words) -> None:
    change = judged.change
    kind = "tie" if not change.excludes_zero else "ahead" if change.value > 0 else "behind"
    st.info(
        words(
            f"challenge.verdict_{kind}",
            accuracy=judged.measurement.accuracy.value,
            reference=judged.reference.accuracy.value,
            change=change.told(-100 if kind == "behind" else 100),
        )
    )


def _attempts(words: Words) -> None:
    """What was handed in during this session, in order."""
    attempts: dict[tuple[str, str], Verdict] = st.session_state.get("attempts", {})
    if not attempts:
        return
    st.markdown(f"**{words('challenge.handed')}**")
    rows = list(attempts.values())
    table = {
        words("challenge.attempt"): range(1, len(rows) + 1),
        words("cost.rung"): [words(f"rung.{judged.method}") for judged in rows],
        words("challenge.cut"): [round(judged.cut * 100, 1) for judged in rows],
        words("challenge.choose"): [round(judged.measurement.accuracy.value * 100, 2) for judged in rows],
        words("challenge.against"): [judged.change.told(100) for judged in rows],
    }
    st.dataframe(pd.DataFrame(table), hide_index=True)
