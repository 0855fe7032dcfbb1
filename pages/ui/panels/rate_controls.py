"""Choosing rates, in one row: the rung, presets, the master control, and what is seldom needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import pandas as pd
import streamlit as st

from fpgm_core import Measurement
from fpgm_core.graph import Unit
from fpgm_core.lesson import Words
from fpgm_core.pruning import PRESETS, stage_of, stages
from fpgm_core.recovery import RECOVERY_METHODS, refused_rungs
from pages.ui.components.telling import plain
from pages.ui.panels.pickers import glossed
from pages.ui.panels.refit import damage_status
from pages.ui.panels.speed import speed_menu
from pages.ui.session.measuring import can_stand_on
from pages.ui.session.session import Session
from pages.ui.session.speed import stepped
from pages.ui.session.widgets import menu, mirror

ALL = ""  # units: no stage is called so
MULTIPLES = (1, 4, 8, 16, 32)
_NO_PRESET = "—"


def rate_controls(session: Session) -> None:
    """One row: what is done after pruning, presets, the master control for all units or one stage, and more."""
    units = session.network.units(session.state.plan.coupling)
    with st.container(key="controls", horizontal=True, vertical_alignment="center", gap="small"):
        _rungs(session)
        st.selectbox(
            session.words("rates.preset"),
            [_NO_PRESET, *PRESETS],
            format_func=partial(_preset, session.words),
            label_visibility="collapsed",
            width=180,
            **menu("preset", _NO_PRESET, set_preset, str(session.revision)),
        )
        _master(session, units)
        _more(session, units)
        if session.network.trained:
            st.page_link(
                "pages/5_Choose.py", label=session.words("compare.from_explore"), query_params={"view": "compare"},
                help=session.words("compare.from_explore_help"),
            )  # fmt: skip


def _preset(words: Words, name: str) -> str:
    return words.of(PRESETS[name]) if name in PRESETS else words("rates.no_preset")


def _rungs(session: Session) -> None:
    """What is done after pruning and before measuring; each rung with its accuracy for this plan, where known."""
    words = session.words
    rungs = [name for name in RECOVERY_METHODS if can_stand_on(replace(session.state, method=name))]
    titles = {}
    for name in rungs:
        found = session.measured(name)
        titles[name] = words.of(RECOVERY_METHODS[name]) + (f" · {_told(found, words)}" if found else "")
    st.segmented_control(
        words("rates.ladder"),
        rungs,
        required=True,
        format_func=titles.__getitem__,
        label_visibility="collapsed",
        help="  \n".join(
            [glossed(words, (RECOVERY_METHODS[name] for name in rungs))]
            + [
                words("rates.no_rung", rung=words.of(RECOVERY_METHODS[name]), reason=words.phrase(why))
                for name, why in refused_rungs(session.network).items()
            ]
        ),
        # Words that change make another widget to Streamlit, which then has nothing chosen: so it is another.
        **mirror(
            "method", session.state.method, lambda session, name: session.change(method=name), "|".join(titles.values())
        ),
    )


def _told(measured: Measurement, words: Words) -> str:
    """Accuracy in short, and top-5 after it where there is one."""
    top5 = measured.top5
    return f"{measured.accuracy.value:.2%}" + (words("rates.top5", top5=top5.value) if top5 else "")


def _master(session: Session, units: Sequence[Unit]) -> None:
    """One rate for all units, or for those of a stage."""
    words, groups = session.words, [ALL, *stages(units)]
    if st.session_state.get("group") not in groups:
        st.session_state.group = ALL
    st.selectbox(
        words("rates.master_moves"),
        groups,
        format_func=lambda name: name or words("rates.all"),
        key="group",
        label_visibility="collapsed",
        width=120,
    )
    chosen = [unit.name for unit in units if st.session_state.group in (ALL, stage_of(unit.name))]
    mean = sum(session.state.plan.rate(name) for name in chosen) / max(1, len(chosen))
    st.slider(
        words("rates.master"),
        0,
        100,
        label_visibility="collapsed",
        width=200,
        format=words("rates.master_shows"),
        **mirror(
            "master",
            round(mean * 100),
            lambda session, percent: _set_rates(session, chosen, percent / 100),
            str(session.revision),
        ),
    )


def _more(session: Session, units: Sequence[Unit]) -> None:
    """What is seldom needed: rounding, the damage strips, which layers move together, and which stay whole."""
    network, plan = session.network, session.state.plan
    refusals = network.refusals(plan.coupling)
    together = [unit for unit in units if len(unit.members) > 1]
    words = session.words
    counts = [words("rates.whole", n=len(refusals))] * bool(refusals)
    counts += [words("rates.groups", n=len(together))] * bool(together)
    with st.popover(words("rates.more", what=", ".join(counts) or words("rates.alone")), key="more"):
        st.toggle(
            words("rates.damage"),
            help=words("rates.damage_help"),
            **mirror("damage", session.state.damage, lambda session, shown: session.change(damage=shown)),
        )
        st.selectbox(
            words("rates.multiple"),
            MULTIPLES,
            help=words("rates.multiple_help"),
            **menu("multiple", plan.options.round_to, _set_multiple),
        )
        speed_menu(session)
        _coupled_layers(session, together, refusals)


def notices(session: Session) -> None:
    """What must be said of the network's forward, of the measured rung, and of the damage surface."""
    for settled in session.network.settled:
        st.info(plain(session.words.phrase(settled)))
    measurement = session.measured(session.state.method)
    if measurement and measurement.notice:
        notice = session.words.phrase(measurement.notice)
        st.info(f"{notice[0].upper()}{notice[1:]}.")
    damage_status(session)


def _set_multiple(session: Session, multiple: int) -> None:
    plan = session.state.plan
    session.change(plan=replace(plan, options=replace(plan.options, round_to=multiple)))


def _coupled_layers(session: Session, together: Sequence[Unit], refusals: Mapping[str, str]) -> None:
    """Which layers move together, and which stay whole, with the reason."""
    network, plan, words = session.network, session.state.plan, session.words
    if together:
        st.caption(words("rates.together"))
        agreement = words("sheet.agreement")
        rows = {
            words("sheet.unit"): [unit.name for unit in together],
            words("sheet.layers"): [", ".join(unit.members) for unit in together],
            agreement: [network.member_agreement(unit, plan.criterion, plan.options) for unit in together],
        }
        number = st.column_config.NumberColumn(format="%.2f")
        st.dataframe(pd.DataFrame(rows), hide_index=True, column_config={agreement: number})
    if refusals:
        st.caption(words("rates.stay_whole"))
        reasons = list(map(words.phrase, refusals.values()))
        st.dataframe(pd.DataFrame({words("sheet.layer"): list(refusals), words("sheet.why"): reasons}), hide_index=True)


def set_preset(session: Session, preset: str) -> None:
    """Give every unit the rate of a preset of that name; any other name changes nothing."""
    if preset in PRESETS:
        rates = PRESETS[preset].rates(session.network.units(session.state.plan.coupling))
        session.change(plan=stepped(session, session.state.plan.with_rates(rates)))


def _set_rates(session: Session, units: list[str], rate: float) -> None:
    session.change(plan=stepped(session, session.state.plan.with_rates(dict.fromkeys(units, rate)), units))
