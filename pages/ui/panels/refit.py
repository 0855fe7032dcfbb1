"""Refit costs and predicted damage: measured in the background, and drawn on the pages that show them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial

import streamlit as st

from fpgm_core import FpgmError, Network, Plan
from fpgm_core.calibration import CalibrationConfig, Moments, calibrate_work
from fpgm_core.data import load_images
from fpgm_core.evaluation import Interval, Replaceability, replaceability
from fpgm_core.figures import FilterStates, cost_figure, heat_strips
from fpgm_core.recovery import DamageSurface
from fpgm_core.recovery import damage_work as predict_work
from fpgm_core.runtime.device import choose_device
from fpgm_core.runtime.progress import Progress, Work, within
from pages.ui.panels.pictures import cached_figure
from pages.ui.session.session import Session
from pages.ui.session.work_status import job_for, result_of

CALIBRATION = CalibrationConfig()


def _moments_work(network: Network) -> Work[Moments]:
    """The calibration pass. Raises FpgmError for a network without trained weights."""
    if not network.trained:
        raise FpgmError(f"random weights have nothing that could be replaced: {network.notice}")
    training = load_images(network.dataset, "train")
    return (yield from calibrate_work(network, training, config=CALIBRATION, device=choose_device("auto")))


def refit_cost_work(network: Network, coupling: str) -> Work[tuple[Replaceability, ...]]:
    """Calibrate, and measure what the loss of each filter costs."""
    moments = yield from within(_moments_work(network), 0, 0.7)
    yield Progress(0.7)  # moments that were kept needed no pass
    return replaceability(network, moments, coupling)


def damage_work(network: Network, like: Plan) -> Work[DamageSurface]:
    """Calibrate, and predict what every unit costs at every rate under the criterion and coupling of `like`."""
    moments = yield from within(_moments_work(network), 0, 0.5)
    return (yield from within(predict_work(network, moments, plan=like), 0.5))


def refit_costs(session: Session) -> tuple[Replaceability, ...] | None:
    """Every layer's filters with their refit costs; progress is drawn until they are there."""
    network, coupling = session.network, session.state.plan.coupling
    return result_of(
        session,
        "replaceability",
        lambda: refit_cost_work(network, coupling),
        key=("replaceability", network.fingerprint, coupling),
        doing="reading training images once, then computing what losing each filter costs",
    )


def _damage_request(session: Session) -> tuple[Callable[[], Work[DamageSurface]], Hashable]:
    plan = session.state.plan
    key = ("damage", plan.fingerprint, plan.criterion, plan.coupling, plan.options)
    return partial(damage_work, session.network, plan), key


def damage(session: Session) -> DamageSurface | None:
    """The damage surface of the plan's criterion and coupling, where it is wanted and there."""
    if not session.state.damage:
        return None
    work, key = _damage_request(session)
    job = job_for(session, "damage", work, key=key)
    return None if job is None else job.result


def damage_progress(session: Session) -> None:
    """How far the damage surface is, where it is wanted and not there."""
    if session.state.damage:
        work, key = _damage_request(session)
        result_of(session, "damage", work, key=key, doing="predicting the damage of every bar at every rate")


@st.cache_resource(max_entries=32, show_spinner=False)
def strips(key: Hashable, _surface: DamageSurface) -> dict[str, str]:
    """The surface as one strip of colours a unit."""
    return heat_strips(_surface.rates, dict(zip(_surface.units, _surface.loss, strict=True)))


def cost_view(session: Session, costs: Replaceability, states: FilterStates) -> None:
    """A layer's filters by g, or by norm, against refit cost and against the share made good."""
    axis = st.segmented_control(
        "Against", ["g", "L2 norm"], default="g", required=True, key="cost_by", label_visibility="collapsed"
    )
    by_norm = axis == "L2 norm"
    answers = costs.by_norm if by_norm else costs.by_distance
    for place, question, chart in zip(st.columns(2), ("cheap", "replaceable"), ("costs", "made_good"), strict=True):
        with place:
            _filters(session, costs, states, chart=chart, by_norm=by_norm)
            told = "refit cost" if chart == "costs" else "share made good"
            st.caption(f"Rank correlation of {axis} with {told}: {correlation(answers[question].interval)}.")


def _filters(session: Session, costs: Replaceability, states: FilterStates, *, chart: str, by_norm: bool) -> None:
    made_good = chart == "made_good"
    key = (chart, session.state.plan.fingerprint, costs.layer, by_norm, bytes(states.keep), tuple(states.locked))
    st.plotly_chart(
        cached_figure(key, lambda: cost_figure(costs, states, by_norm=by_norm, made_good=made_good)),
        key=chart,
        alt=f"{'L2 norm' if by_norm else 'g'} against {'the share made good' if made_good else 'measured refit cost'}",
        config={"displayModeBar": False},
    )


def correlation(interval: Interval | None) -> str:
    """A rank correlation with its interval in words."""
    return "too few filters to tell" if interval is None else interval.told()
