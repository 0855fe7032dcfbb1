"""What each unit alone costs, measured rate by rate in the background; rates are chosen from it."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace

import pandas as pd
import streamlit as st

from fpgm_core import EvaluationConfig, FpgmError, Network, Plan
from fpgm_core.evaluation import RATES, SWEPT, Repairing, Sweep, sweep_steps
from fpgm_core.figures import sensitivity_curves, sweep_figure
from fpgm_core.recovery import get_recovery_method
from pages.ui.session.jobs import Job, engine
from pages.ui.panels.pictures import drawn
from pages.ui.session.session import Session, callback, sitting
from pages.ui.panels.pickers import accuracy_card, time_left

_PURPOSE = ":sensitivity"


@dataclass(frozen=True)
class _Running:
    """A sweep as far as it is, and how long the rest will take, as far as one can tell."""

    sweep: Sweep
    seconds_left: float | None


def _settings(session: Session) -> EvaluationConfig:
    return replace(SWEPT, rung=session.state.method)


def _steps(network: Network, like: Plan, settings: EvaluationConfig) -> Iterator[_Running]:
    begun, known = time.monotonic(), None
    for sweep in sweep_steps(network, like, settings, RATES):
        known = len(sweep.points) if known is None else known
        new = len(sweep.points) - known
        each = (time.monotonic() - begun) / new if new else None
        yield _Running(sweep, each and each * (sweep.total - len(sweep.points)))


def _about(session: Session) -> Hashable:
    plan = session.state.plan
    return ("sensitivity", plan.fingerprint, plan.criterion, plan.coupling, plan.options, session.state.method)


def sensitivity_panel(session: Session) -> None:
    """The sweep of the plan's criterion and coupling: begun by a button, drawn as it comes, kept on disk."""
    st.markdown(
        f"Each unit is pruned **alone**, at one rate after another, and measured on {SWEPT.images:,} images of the "
        f"choose half, *{get_recovery_method(session.state.method).title.lower()}* as on Explore. What it bears alone says how far its "
        "bar may go."
    )
    if not session.network.trained:
        st.info("Random weights have no accuracy to lose; open a network with trained ones.")
        return
    if session.message:
        st.error(session.message)
    session.remember()
    job = _job(session)
    try:
        sweep = _known(session, job)
    except FpgmError as error:
        st.error(str(error))
        return
    _progress(session, job, sweep)
    if sweep.points:
        _choosing(session, sweep)
        _pictures(session, sweep)


def _job(session: Session) -> Job[_Running] | None:
    about, job = session.works.get(_PURPOSE, (None, None))
    return job if about == _about(session) else None


def _known(session: Session, job: Job[_Running] | None) -> Sweep:
    """What is measured so far: by the job, or kept from before. Raises FpgmError where nothing can be swept."""
    if job and job.latest:
        return job.latest.sweep
    return next(sweep_steps(session.network, session.state.plan, _settings(session), RATES))


def _begin(session: Session) -> None:
    network, plan, settings = session.network, session.state.plan, _settings(session)
    job: Job[_Running] = engine().run(session.session + _PURPOSE, _about(session), lambda: _steps(network, plan, settings))
    session.works[_PURPOSE] = (_about(session), job)


def _progress(session: Session, job: Job[_Running] | None, sweep: Sweep) -> None:
    """How far the sweep is, and the button that begins it, stops it, or goes on with it."""
    if job is not None and job.error:
        st.error(job.error)
    if job is not None and not job.done:
        bar, button = st.columns([5, 1], vertical_alignment="center")
        with bar:
            _watch(job, len(sweep.units))
        button.button("Stop", key="stop_sweep", width="stretch", on_click=callback(lambda session: session.halt(_PURPOSE)))
    elif len(sweep.points) < sweep.total:
        begun = f"go on, {len(sweep.points)} of {sweep.total} are measured" if sweep.points else f"{sweep.total} points"
        st.button(f"Measure: {begun}", key="begin_sweep", type="primary", on_click=callback(_begin))


@st.fragment(run_every=1.0)
def _watch(job: Job[_Running], units: int) -> None:
    """The progress; the page is drawn anew where a unit is complete, or all."""
    running = job.latest
    if job.done or (running and len(running.sweep.units) > max(units, 1)):
        st.rerun()
    done, total = (len(running.sweep.points), running.sweep.total) if running else (0, 1)
    left = time_left(running.seconds_left) if running else ""
    st.progress(done / total, text=f"measured {done} of {total}{left}" if running else "waiting for its turn")


def _choosing(session: Session, sweep: Sweep) -> None:
    """The bars from the sweep: how much a unit may lose alone, and what the plan on screen loses as a whole."""
    loss, button, _, measured = st.columns([1.1, 1.5, 0.3, 2.2], vertical_alignment="bottom")
    points = loss.number_input("A unit may lose, points", 0.0, 100.0, 1.0, 0.5, key="tolerated")
    rates = sweep.rates_within(points / 100)
    plan = session.state.plan.with_rates(rates)
    cut = 1 - session.network.cost(plan).macs / session.network.dense_cost.macs
    button.button(
        f"Set the bars: {cut:.1%} of the MACs cut",
        key="set_bars",
        help="Every measured unit at its highest rate up to which it loses no more than that, alone. Together they "
        "may lose more: what the plan loses is measured then.",
        disabled=plan == session.state.plan,
        on_click=callback(lambda session: session.change(plan=session.state.plan.with_rates(rates))),
    )
    with measured:
        _accuracy(0.5 if session.job and not session.job.done else None)


def _accuracy(every: float | None) -> None:
    """The measured accuracy of the plan on screen, as it comes."""

    @st.fragment(run_every=every)
    def card() -> None:
        session = current_session()
        job = session.job
        if every and (job is None or job.done):
            st.rerun()
        repairing = job.latest if job and isinstance(job.latest, Repairing) else None
        st.html(accuracy_card(session.figure, repairing, job.error if job else None, False, True))

    card()


def _pictures(session: Session, sweep: Sweep) -> None:
    network, plan = session.network, session.state.plan
    names = [unit.name for unit in network.units(plan.coupling)]
    unit = network.unit_of(session.state.layer, plan.coupling)
    chosen = unit.name if unit else names[0]
    # Drawn anew where a unit is complete: with every point the pictures would flicker.
    seen = (_about(session), len(sweep.units), len(sweep.points) == sweep.total, chosen)
    left, right = st.columns([1.5, 1], gap="medium")
    with left:
        about = ("sweep", *seen, *sorted(plan.rates.items()))
        st.plotly_chart(
            drawn(about, lambda: sweep_figure(sweep, names, RATES, plan.rates, chosen)),
            key="sweep",
            alt="points of accuracy that every unit loses alone, rate by rate",
            on_select=callback(lambda session: _clicked(now, names)),
            selection_mode="points",
            config={"displayModeBar": False},
        )
        st.caption(
            "Change of accuracy in points; in brackets where its paired 95% interval does not exclude 0. Click a cell "
            "to set that bar; click where a bar stands to set it back to 0."
            + " Recalibrating can cost accuracy even where nothing is pruned: the lowest rates show how much."
            * (session.state.method == "recalibrated")
        )
    with right:
        by = st.segmented_control("Against", ["rate", "MACs cut"], default="rate", required=True, key="sweep_by",
                                  label_visibility="collapsed")  # fmt: skip
        about = ("curves", *seen, by)
        st.plotly_chart(
            drawn(about, lambda: sensitivity_curves(sweep, chosen, network.dense_cost.macs, by == "MACs cut")),
            key="sweep_curves",
            alt=f"change of accuracy of every unit, {chosen} in colour",
            config={"displayModeBar": False},
        )
        st.caption("Bars are paired 95% intervals against the dense network, on the same images.")
    with st.expander("The numbers behind the picture"):
        st.dataframe(_table(sweep, network.dense_cost.macs), hide_index=True)


def _clicked(session: Session, names: list[str]) -> None:
    points = st.session_state.sweep.selection.points
    if points and (data := points[0].get("customdata")) is not None:
        set_bar(session, names, data)


def set_bar(session: Session, names: list[str], data: list[float] | dict[str, float]) -> None:
    """Set a unit's bar to a clicked cell's rate, or to 0 where it stands there; `data` are its place and the rate."""
    row, rate = data if isinstance(data, list) else (data[key] for key in sorted(data, key=int))
    name, plan = names[int(row)], session.state.plan
    unit = next(unit for unit in session.network.units(plan.coupling) if unit.name == name)
    layer = session.state.layer if session.state.layer in unit.members else name
    session.change(plan=plan.with_rates({name: 0.0 if plan.rate(name) == rate else rate}), layer=layer, chosen=None)


def _table(sweep: Sweep, dense_macs: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "unit": [point.unit for point in sweep.points],
            "rate": [point.rate for point in sweep.points],
            "MACs cut %": [100 * (1 - point.macs / dense_macs) for point in sweep.points],
            "accuracy %": [100 * point.correct / point.images for point in sweep.points],
            "change, points": [100 * point.change.value for point in sweep.points],
            "low": [100 * point.change.low for point in sweep.points],
            "high": [100 * point.change.high for point in sweep.points],
        }
    )
