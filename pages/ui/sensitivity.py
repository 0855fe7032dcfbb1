"""The page Sensitivity: what every unit alone loses, measured rate by rate in the background; bars set from it."""

from __future__ import annotations

from collections.abc import Hashable

import pandas as pd
import streamlit as st

from fpgm_core import FpgmError
from fpgm_core.data import load_images
from fpgm_core.evaluation import RATES, SWEEP_IMAGES, Sweep, sweep_work
from fpgm_core.figures import sensitivity_curves, sweep_figure
from fpgm_core.lesson import Words
from fpgm_core.recovery import get_recovery_method
from fpgm_core.runtime.progress import Work
from pages.ui.components.telling import plain, told
from pages.ui.panels.pictures import cached_figure, clicked, labels_of
from pages.ui.session.jobs import Job
from pages.ui.session.networks import network_key, why_unmeasured
from pages.ui.session.session import Session
from pages.ui.session.widgets import callback

_JOB = "sensitivity"


def _key(session: Session) -> Hashable:
    plan, network = session.state.plan, network_key(session.network)
    return ("sensitivity", *network, plan.criterion, plan.coupling, plan.options, session.state.method)


def _sweep_work(session: Session) -> Work[Sweep]:
    network, plan, method = session.network, session.state.plan, session.state.method
    images, training = load_images(network.dataset, "choose"), load_images(network.dataset, "train")
    return sweep_work(network, images.at_most(SWEEP_IMAGES), plan=plan, method=method, training=training, rates=RATES)


def sensitivity_page(session: Session) -> None:
    """The sweep of the plan's criterion and coupling: begun by a button, drawn as it comes, kept on disk."""
    network, words = session.network, session.words
    why = why_unmeasured(network)
    if why is not None:
        st.warning(words("sweep.needs", why=words.phrase(why)))
        return
    rung = words.of(get_recovery_method(session.state.method)).lower()
    st.markdown(words("sweep.about", images=SWEEP_IMAGES, rung=rung))
    job = session.jobs.get(_JOB, _key(session))
    try:
        sweep = known_sweep(session)
    except FpgmError as error:
        st.error(plain(words.phrase(told(error))))
        return
    _progress(job, sweep, words)
    if sweep.points:
        _choosing(session, sweep)
    _pictures(session, sweep)


def known_sweep(session: Session) -> Sweep:
    """What is measured so far: by the job, or kept from before. Raises FpgmError where nothing can be swept."""
    job = session.jobs.get(_JOB, _key(session))
    if job is not None and (job.result or job.partial):
        return job.result or job.partial
    sweep: Sweep = next(_sweep_work(session)).partial  # the first step brings what earlier sweeps kept
    return sweep


def _begin(session: Session) -> None:
    doing = session.words("sweep.doing", network=session.network.title)
    session.jobs.start(_JOB, lambda: _sweep_work(session), key=_key(session), title=doing)


def _progress(job: Job[Sweep] | None, sweep: Sweep, words: Words) -> None:
    """What went wrong, and the button that begins the sweep, or resumes it."""
    if job is not None and job.error:
        st.error(plain(words.phrase(job.error)))
    known, total = len(sweep.points), sweep.total
    if job is not None and not job.done:
        _watch(job, len(sweep.units))
    elif known < total:
        label = words("sweep.resume" if known else "sweep.measure", known=known, total=total)
        st.button(label, key="begin_sweep", type="primary", on_click=callback(_begin))


@st.fragment(run_every=1.0)
def _watch(job: Job[Sweep], units: int) -> None:
    """The page is drawn anew where a unit is complete."""
    sweep = job.partial
    if sweep and len(sweep.units) > max(units, 1):
        st.rerun()


def _choosing(session: Session, sweep: Sweep) -> None:
    """The bars from the sweep: how much a unit may lose alone, and what the plan on screen loses as a whole."""
    loss, button, _ = st.columns([1.1, 1.5, 2.5], vertical_alignment="bottom")
    points = loss.number_input(session.words("sweep.may_lose"), 0.0, 100.0, 1.0, 0.5, key="tolerated")
    rates = sweep.rates_within(points / 100)
    plan = session.state.plan.with_rates(rates)
    cut = 1 - session.network.cost(plan).macs / session.network.dense_cost.macs
    button.button(
        session.words("sweep.set", cut=cut),
        key="set_bars",
        help=session.words("sweep.set_help"),
        disabled=plan == session.state.plan,
        on_click=callback(lambda session: session.change(plan=session.state.plan.with_rates(rates))),
    )


def _pictures(session: Session, sweep: Sweep) -> None:
    network, plan, words = session.network, session.state.plan, session.words
    names = [unit.name for unit in network.units(plan.coupling)]
    unit = network.unit_of(session.state.layer, plan.coupling)
    chosen = unit.name if unit else names[0]
    # Drawn anew where a unit is complete: with every point the pictures would flicker.
    extent = (words.language, _key(session), len(sweep.units), len(sweep.points) == sweep.total, chosen)
    left, right = st.columns([1.5, 1], gap="medium")
    with left:
        _map(session, sweep, names, chosen=chosen, extent=extent)
    with right:
        if not sweep.points:
            st.caption(words("sweep.empty"))
            return
        _curves(sweep, chosen, dense_macs=network.dense_cost.macs, extent=extent, words=words)
    with st.expander(words("picture.numbers")):
        st.dataframe(_table(sweep, network.dense_cost.macs, words), hide_index=True)


def _map(session: Session, sweep: Sweep, names: list[str], *, chosen: str, extent: tuple[Hashable, ...]) -> None:
    """Every unit at every rate; a click on a cell sets that bar."""
    rates, words = session.state.plan.rates, session.words
    labels = labels_of(words)
    key = ("sweep", *extent, *sorted(rates.items()))
    st.plotly_chart(
        cached_figure(key, lambda: sweep_figure(sweep, names, rates=RATES, plan=rates, chosen=chosen, labels=labels)),
        key="sweep",
        alt=words("sweep.map_alt"),
        on_select=callback(lambda session: _click(session, names)),
        selection_mode="points",
        config={"displayModeBar": False},
    )
    said = [words("sweep.map_caption")] + [words("sweep.recalibrating")] * (session.state.method == "recalibrated")
    st.caption(" ".join(said))


def _curves(sweep: Sweep, chosen: str, *, dense_macs: int, extent: tuple[Hashable, ...], words: Words) -> None:
    """Every unit's change of accuracy, by rate or by MACs cut."""
    axis = st.segmented_control(
        words("sweep.against"),
        ["rate", "macs_cut"],
        format_func=lambda axis: words(f"sweep.by_{axis}"),
        default="rate",
        required=True,
        key="sweep_by",
        label_visibility="collapsed",
    )
    labels = labels_of(words)
    st.plotly_chart(
        cached_figure(
            ("curves", *extent, axis),
            lambda: sensitivity_curves(sweep, chosen, dense_macs=dense_macs, by_macs=axis == "macs_cut", labels=labels),
        ),
        key="sweep_curves",
        alt=words("sweep.curves_alt", chosen=chosen),
        config={"displayModeBar": False},
    )
    st.caption(words("sweep.curves_caption"))


def _click(session: Session, names: list[str]) -> None:
    point = clicked("sweep")
    if point is not None:
        set_bar(session, names, point)


def set_bar(session: Session, names: list[str], data: list[float]) -> None:
    """Set a unit's bar to a clicked cell's rate, or to 0 where it stands there; `data` are its row and the rate."""
    if len(data) != 2 or data[0] not in range(len(names)):
        return
    row, rate = data
    name, plan = names[int(row)], session.state.plan
    unit = next(unit for unit in session.network.units(plan.coupling) if unit.name == name)
    layer = session.state.layer if session.state.layer in unit.members else name
    session.change(plan=plan.with_rates({name: 0.0 if plan.rate(name) == rate else rate}), layer=layer, chosen=None)


def _table(sweep: Sweep, dense_macs: int, words: Words) -> pd.DataFrame:
    top5 = [point.num_correct_top5 for point in sweep.points]
    table = pd.DataFrame(
        {
            words("sheet.unit"): [point.unit for point in sweep.points],
            words("sheet.rate"): [point.rate for point in sweep.points],
            words("sheet.macs_cut"): [100 * (1 - point.macs / dense_macs) for point in sweep.points],
            words("sheet.accuracy"): [100 * point.num_correct / point.num_images for point in sweep.points],
            words("sheet.change"): [100 * point.change.value for point in sweep.points],
            words("sheet.low"): [100 * point.change.low for point in sweep.points],
            words("sheet.high"): [100 * point.change.high for point in sweep.points],
        }
    )
    if any(count is not None for count in top5):
        table[words("sheet.top5")] = [
            None if count is None else 100 * count / point.num_images
            for count, point in zip(top5, sweep.points, strict=True)
        ]
    return table
