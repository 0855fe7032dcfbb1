"""Choosing rates: the equaliser, its table, presets and the master control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from fpgm_core import FpgmError, Network, Plan
from fpgm_core.evaluation import Repairing
from fpgm_core.graph import Unit
from fpgm_core.pruning import PRESETS, stage_of, stages
from fpgm_core.recovery import RECOVERY_METHODS
from pages.ui.equaliser import Bar, equaliser, read_move
from pages.ui.jobs import engine
from pages.ui.live import LIVE
from pages.ui.replaceable import damage, damage_progress, strips
from pages.ui.sitting import Session, callback, mirror, share, sitting
from pages.ui.top_bar import accuracy_card, macs_card, params_card

KEY = "equaliser"
# An asking costs the browser tens of milliseconds, on cores that measure: so the answer waits a little for news.
POLL_FIRST, POLL_RUNNING = 30, 500  # milliseconds
POLL_SHARE = 40  # milliseconds for every measurement under way: many sessions together ask no oftener than one
PATIENCE = 0.25  # seconds
ALL = "all units"
_NO_PRESET = "—"
_SHORT = {"conv": "c", "features.": "f", "expand": "ex", "depthwise": "dw", "project": "pr"}
MULTIPLES = (1, 4, 8, 16, 32)


def take_move(here: Session) -> bool:
    """Act on the equaliser's newest message, if it is new; True where the bar has come to rest."""
    units = here.network.units(here.look.plan.coupling)
    held = st.session_state.get(KEY) or {}
    move = read_move(held.get("move"), [unit.name for unit in units])
    if move is None or move.seq <= here.echo:
        return False
    here.echo = move.seq
    if not move.rest:
        _drag(here, move.rates)
        return False
    look = here.look
    layer = move.chosen or look.layer
    chosen = look.chosen if layer == look.layer else None
    here.go(replace(look, plan=look.plan.with_rates(move.rates), layer=layer, chosen=chosen), by_equaliser=True)
    return True


def asked_again(here: Session) -> bool:
    """Whether this run is the bars asking for the measurement, not a person's doing."""
    tick = (st.session_state.get(KEY) or {}).get("tick")
    new, here.tick = tick != here.tick, tick
    return new


def _drag(here: Session, rates: object) -> None:
    """Show what the plan under the hand costs; measuring waits until it rests."""
    here.stop()
    try:
        draft = here.look.plan.with_rates(rates)  # type: ignore[arg-type]
        here.network.cost(draft)
    except FpgmError as error:
        here.message = str(error)
        return
    here.draft, here.message = draft, None


@st.fragment
def live_panel(
    accuracy: DeltaGenerator, macs: DeltaGenerator, params: DeltaGenerator, words: Mapping[str, str] = LIVE
) -> None:
    """The equaliser and the three figures of the top bar: all that moves while a bar is dragged or measured.

    The bars poll for the measurement (they can do so as often as it is worth, a timer of the fragment's
    cannot). When a bar comes to rest the first figure goes first: the rest of the page is drawn after it.
    """
    here = sitting()
    here.redraw = take_move(here) or here.redraw
    asked = asked_again(here)
    if asked:  # so the bars are on screen
        here.begin()
    job = here.job
    if asked and job is not None:
        job.wait(PATIENCE)
    coming = here.fresh and here.network.trained
    waiting = coming or (job is not None and not job.done and job.latest is None)
    repairing = job.latest if job and isinstance(job.latest, Repairing) else None
    share(here.look)
    network, plan = here.network, here.plan
    cost = network.cost(plan)
    error = job.error if job else None
    moving, trained = here.draft is not None, network.trained
    accuracy.html(accuracy_card(here.figure, repairing, error, moving, trained, words))
    macs.html(macs_card(cost, network.dense_cost, words))
    params.html(params_card(cost, network.dense_cost, words))
    unit = network.unit_of(here.look.layer, plan.coupling)
    often = POLL_FIRST if waiting and not coming else POLL_RUNNING  # what is coming lets the pictures go first
    under_way = coming or (job is not None and not job.done)
    poll = max(often, POLL_SHARE * (engine().under_way - 1)) if under_way else 0
    chosen = unit.name if unit else None
    equaliser(bars(here, words), chosen, here.revision, here.echo, poll, here.tick, KEY, words)
    if here.has_news() or (here.redraw and not waiting):
        st.rerun()


def bars(here: Session, words: Mapping[str, str] = LIVE) -> list[Bar]:
    """What the equaliser shows of the plan on screen."""
    network, plan = here.network, here.plan
    share = {layer.name: layer.share for layer in network.layers}
    surface = damage(here)
    heat = {} if surface is None else strips((plan.fingerprint, plan.criterion, plan.coupling, plan.options), surface)
    return [
        Bar(
            unit.name,
            _label(unit),
            stage_of(unit.name),
            unit.size,
            plan.rate(unit.name),
            network.count_pruned(plan, unit),
            sum(share[member] for member in unit.members),
            len(unit.members),
            unit.name in plan.locked_in or unit.name in plan.locked_out,
            _agreement(network, plan, unit, words),
            words["damage"].format(loss=f"{surface.at(unit.name, plan.rate(unit.name)):.1%}")
            if surface and unit.name in heat
            else "",
            heat.get(unit.name, ""),
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
    told = words["agreement"].format(rho="–" if rho is None else f"{rho:.2f}")
    return told if shared is None else f"{told}, {words['shared'].format(shared=f'{shared:.0%}')}"


def rate_table(here: Session) -> None:
    """The precise way: rates typed into a table."""
    rows = bars(here)
    table = pd.DataFrame(
        {
            "unit": [bar.name for bar in rows],
            "prune %": [round(bar.rate * 100, 2) for bar in rows],
            "pruned": [f"{bar.pruned} of {bar.size}" for bar in rows],
            "MACs": [bar.share * 100 for bar in rows],
        }
    )
    # A new key for every plan: an editor that is fed its own output loses edits.
    key = f"table-{here.look.plan.key[:12]}-{here.revision}"
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
        on_change=callback(lambda now: _edited(now, key, [bar.name for bar in rows])),
    )


def _edited(here: Session, key: str, units: list[str]) -> None:
    edits = st.session_state[key]["edited_rows"]
    rates = {units[int(row)]: edit["prune %"] / 100 for row, edit in edits.items() if edit.get("prune %") is not None}
    try:
        here.go(replace(here.look, plan=here.look.plan.with_rates(rates)))
    except FpgmError as error:
        here.refuse(error)


def rate_controls(here: Session) -> None:
    """Presets, and the master control for all units or one stage."""
    units = here.network.units(here.look.plan.coupling)
    preset, group, master, multiple, moves = st.columns([1.5, 1, 1.9, 0.8, 1.5], vertical_alignment="bottom")
    preset.selectbox(
        "Preset",
        [_NO_PRESET, *PRESETS],
        format_func=lambda name: PRESETS[name].title if name in PRESETS else "choose ...",
        **mirror("preset", _NO_PRESET, set_preset, str(here.revision)),
    )
    groups = [ALL, *stages(units)]
    if st.session_state.get("group") not in groups:
        st.session_state.group = ALL
    group.selectbox("Master moves", groups, key="group")
    chosen = [unit.name for unit in units if st.session_state.group in (ALL, stage_of(unit.name))]
    mean = sum(here.look.plan.rate(name) for name in chosen) / max(1, len(chosen))
    master.slider(
        "Master: prune %",
        0,
        100,
        **mirror("master", round(mean * 100), lambda now, rate: _apply_master(now, chosen, rate), str(here.revision)),
    )
    multiple.selectbox(
        "Keep ×",
        MULTIPLES,
        help="Round the filters kept up to a multiple, which hardware likes. The counts shown are the rounded ones.",
        **mirror("multiple", here.look.plan.options.round_to, _set_multiple),
    )
    with moves:
        _moves(here, units)


def ladder(here: Session) -> None:
    """What is done after pruning and before measuring, each rung with its figure for this plan where it has one."""
    known = {rung: here.measured(rung) for rung in RECOVERY_METHODS}
    rungs, told, heat = st.columns([2.2, 1.5, 0.75], vertical_alignment="center")

    def title(rung: str) -> str:
        figure = known[rung]
        return (
            f"{RECOVERY_METHODS[rung].title} · {figure.accuracy.value:.2%}" if figure else RECOVERY_METHODS[rung].title
        )

    rungs.segmented_control(
        "Ladder",
        list(RECOVERY_METHODS),
        required=True,
        format_func=title,
        label_visibility="collapsed",
        **mirror("rung", here.look.rung, lambda now, wanted: now.change(rung=wanted)),
    )
    heat.toggle(
        "Damage",
        help="Beside each bar, what its readers lose at every rate, each unit pruned alone and the rest refitted: "
        "predicted from one pass over training images. Dark is little; click a place to go to that rate.",
        **mirror("heat", here.look.heat, lambda now, wanted: now.change(heat=wanted)),
    )
    told.caption(
        f"Measured after pruning, {RECOVERY_METHODS[here.look.rung].title.lower()}: {RECOVERY_METHODS[here.look.rung].summary}"
    )
    figure = known[here.look.rung]
    if figure and here.look.rung == "repaired" and figure.rung == "recalibrated":
        st.info("Repaired, it is right about fewer held-out training images than recalibrated: this is recalibrated.")
    damage_progress(here)


def _set_multiple(here: Session, multiple: int) -> None:
    plan = here.look.plan
    here.change(plan=replace(plan, options=replace(plan.options, round_to=multiple)))


def _moves(here: Session, units: Sequence[Unit]) -> None:
    """Which layers hang together, and which stay whole, with the reason."""
    network, plan = here.network, here.look.plan
    whole = network.refusals(plan.coupling)
    together = [unit for unit in units if len(unit.members) > 1]
    counts = [f"{len(whole)} stay whole"] * bool(whole) + [f"{len(together)} groups"] * bool(together)
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
        if whole:
            st.dataframe(
                pd.DataFrame({"layer": list(whole), "why it is not pruned": list(whole.values())}), hide_index=True
            )


def set_preset(here: Session, preset: str) -> None:
    """Give every unit the rate of a preset of that name; any other name changes nothing."""
    if preset in PRESETS:
        rates = PRESETS[preset].rates(here.network.units(here.look.plan.coupling))
        here.go(replace(here.look, plan=here.look.plan.with_rates(rates)))


def _apply_master(here: Session, units: list[str], percent: int) -> None:
    here.go(replace(here.look, plan=here.look.plan.with_rates(dict.fromkeys(units, percent / 100))))
