"""Choosing rates: their table, presets, the master control, and what is done after pruning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import streamlit as st

from fpgm_core import FpgmError
from fpgm_core.graph import Unit
from fpgm_core.pruning import PRESETS, stage_of, stages
from fpgm_core.recovery import RECOVERY_METHODS, get_recovery_method, ladder
from pages.ui.panels.live_bars import bars
from pages.ui.panels.refit import damage_progress
from pages.ui.session.session import Session, callback, mirror

ALL = "all units"
MULTIPLES = (1, 4, 8, 16, 32)
_NO_PRESET = "—"


def rate_table(session: Session) -> None:
    """The precise way: rates typed into a table."""
    rows = bars(session)
    table = pd.DataFrame(
        {
            "unit": [bar.name for bar in rows],
            "prune %": [round(bar.rate * 100, 2) for bar in rows],
            "pruned": [f"{bar.pruned} of {bar.size}" for bar in rows],
            "MACs": [bar.share * 100 for bar in rows],
        }
    )
    # A new key for every plan: an editor that is fed its own output loses edits.
    key = f"table-{session.state.plan.key[:12]}-{session.revision}"
    st.data_editor(
        table,
        key=key,
        height=292,
        hide_index=True,
        disabled=["unit", "pruned", "MACs"],
        column_config={
            "prune %": st.column_config.NumberColumn(min_value=0.0, max_value=100.0, step=0.01, required=True),
            "MACs": st.column_config.NumberColumn(format="%.1f%%", help="share of the dense MACs"),
        },
        on_change=callback(lambda session: _edited(session, key, [bar.name for bar in rows])),
    )


def _edited(session: Session, key: str, units: list[str]) -> None:
    edits = st.session_state[key]["edited_rows"]
    rates = {units[int(row)]: edit["prune %"] / 100 for row, edit in edits.items() if edit.get("prune %") is not None}
    try:
        session.go(replace(session.state, plan=session.state.plan.with_rates(rates)))
    except FpgmError as error:
        session.refuse(error)


def rate_controls(session: Session) -> None:
    """Presets, and the master control for all units or one stage."""
    units = session.network.units(session.state.plan.coupling)
    preset, group, master, multiple, layers = st.columns([1.5, 1, 1.9, 0.8, 1.5], vertical_alignment="bottom")
    preset.selectbox(
        "Preset",
        [_NO_PRESET, *PRESETS],
        format_func=lambda name: PRESETS[name].title if name in PRESETS else "choose ...",
        **mirror("preset", _NO_PRESET, set_preset, str(session.revision)),
    )
    groups = [ALL, *stages(units)]
    if st.session_state.get("group") not in groups:
        st.session_state.group = ALL
    group.selectbox("Master moves", groups, key="group")
    chosen = [unit.name for unit in units if st.session_state.group in (ALL, stage_of(unit.name))]
    mean = sum(session.state.plan.rate(name) for name in chosen) / max(1, len(chosen))
    master.slider(
        "Master: prune %",
        0,
        100,
        **mirror(
            "master",
            round(mean * 100),
            lambda session, percent: _set_rates(session, chosen, percent / 100),
            str(session.revision),
        ),
    )
    multiple.selectbox(
        "Keep ×",
        MULTIPLES,
        help="Round the filters kept up to a multiple, which suits hardware. The counts shown are rounded.",
        **mirror("multiple", session.state.plan.options.round_to, _set_multiple),
    )
    with layers:
        _coupled_layers(session, units)


def recovery_choice(session: Session) -> None:
    """What is done after pruning and before measuring; each method with its accuracy for this plan, where known."""
    measured = {name: session.measured(name) for name in ladder()}
    methods, summary, damage = st.columns([2.2, 1.5, 0.75], vertical_alignment="center")

    def title(name: str) -> str:
        record, measurement = RECOVERY_METHODS[name], measured[name]
        return f"{record.title} · {measurement.accuracy.value:.2%}" if measurement else record.title

    methods.segmented_control(
        "Ladder",
        list(ladder()),
        required=True,
        format_func=title,
        label_visibility="collapsed",
        **mirror("method", session.state.method, lambda session, name: session.change(method=name)),
    )
    damage.toggle(
        "Damage",
        help="Beside each bar, what the layers that read it lose at every rate, with that unit pruned alone and the "
        "rest refitted: predicted from one pass over training images. Dark means little; click a place to go to that "
        "rate.",
        **mirror("damage", session.state.damage, lambda session, shown: session.change(damage=shown)),
    )
    method = get_recovery_method(session.state.method)
    summary.caption(f"Measured after pruning, {method.title.lower()}: {method.summary}")
    measurement = measured[method.name]
    if measurement and measurement.notice:
        st.info(f"{measurement.notice[0].upper()}{measurement.notice[1:]}.")
    damage_progress(session)


def _set_multiple(session: Session, multiple: int) -> None:
    plan = session.state.plan
    session.change(plan=replace(plan, options=replace(plan.options, round_to=multiple)))


def _coupled_layers(session: Session, units: Sequence[Unit]) -> None:
    """Which layers move together, and which stay whole, with the reason."""
    network, plan = session.network, session.state.plan
    refusals = network.refusals(plan.coupling)
    together = [unit for unit in units if len(unit.members) > 1]
    counts = [f"{len(refusals)} stay whole"] * bool(refusals) + [f"{len(together)} groups"] * bool(together)
    with st.popover(", ".join(counts) or "every layer moves alone", disabled=not counts, width="stretch"):
        if together:
            st.caption(
                "These layers share channels and move together. Agreement: the rank correlation of a member's own "
                "scores with the group's, for the member that agrees least."
            )
            rows = {
                "unit": [unit.name for unit in together],
                "layers": [", ".join(unit.members) for unit in together],
                "agreement": [network.member_agreement(unit, plan.criterion, plan.options) for unit in together],
            }
            number = st.column_config.NumberColumn(format="%.2f")
            st.dataframe(pd.DataFrame(rows), hide_index=True, column_config={"agreement": number})
        if refusals:
            st.dataframe(
                pd.DataFrame({"layer": list(refusals), "why it is not pruned": list(refusals.values())}),
                hide_index=True,
            )


def set_preset(session: Session, preset: str) -> None:
    """Give every unit the rate of a preset of that name; any other name changes nothing."""
    if preset in PRESETS:
        rates = PRESETS[preset].rates(session.network.units(session.state.plan.coupling))
        session.go(replace(session.state, plan=session.state.plan.with_rates(rates)))


def _set_rates(session: Session, units: list[str], rate: float) -> None:
    session.go(replace(session.state, plan=session.state.plan.with_rates(dict.fromkeys(units, rate))))
