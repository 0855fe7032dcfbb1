"""Is it replaceable? Refit costs and predicted damage, measured in the background, for the pages that show them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterator
from functools import partial

import numpy as np
import pandas as pd
import streamlit as st

from fpgm_core import FpgmError, Network, Plan
from fpgm_core.calibration import CalibrationConfig, Moments, calibrate_work
from fpgm_core.data import load_images
from fpgm_core.evaluation import Interval, Replaceability, replaceability
from fpgm_core.figures import FilterStates, agreement_figure, cost_figure, heat_strips
from fpgm_core.recovery import DamageSurface, damage_steps
from fpgm_core.runtime.device import choose_device
from fpgm_core.runtime.progress import finished, shares
from pages.ui.pictures import drawn, filter_states, first_number
from pages.ui.sitting import Session, callback
from pages.ui.waiting import awaited, background, result

_READING = "reading training images once, then asking what each filter's going costs"


def _moments(network: Network, share: float) -> Generator[float, None, Moments]:
    """The calibration pass, as the first `share` of some work."""
    if not network.trained:
        raise FpgmError(f"random weights have nothing that could be replaced: {network.notice}")
    training = load_images(network.dataset, "train")
    work = calibrate_work(network, training, config=CalibrationConfig(), device=choose_device("auto"))
    return (yield from shares(work, 0, share))


def _costs(network: Network, coupling: str) -> Iterator[float | tuple[Replaceability, ...]]:
    moments = yield from _moments(network, 0.7)
    yield 0.7  # of moments that were kept there was no pass to tell of
    yield replaceability(network, moments, coupling)


def _surface(network: Network, like: Plan) -> Iterator[float | DamageSurface]:
    moments = yield from _moments(network, 0.5)
    yield (yield from finished(damage_steps(network, moments, like), 0.5))


def refit_costs(here: Session) -> tuple[Replaceability, ...] | None:
    """Every layer's filters with their refit costs; progress is drawn until they are there."""
    network, coupling = here.network, here.look.plan.coupling
    key = ("replaceability", network.fingerprint, coupling)
    return awaited(here, ":replaceability", key, partial(_costs, network, coupling), _READING)


def _about_damage(here: Session) -> tuple[str, Hashable, Callable[[], Iterator[float | DamageSurface]]]:
    plan = here.look.plan
    key = ("surface", plan.fingerprint, plan.criterion, plan.coupling, plan.options)
    return ":surface", key, partial(_surface, here.network, plan)


def damage(here: Session) -> DamageSurface | None:
    """The damage surface of the plan's criterion and coupling, where it is wanted and there."""
    return result(background(here, *_about_damage(here))) if here.look.heat else None


def damage_progress(here: Session) -> None:
    """How far the damage surface is, where it is wanted and not there."""
    if here.look.heat:
        awaited(here, *_about_damage(here), "predicting the damage of every bar at every rate")


@st.cache_resource(max_entries=32, show_spinner=False)
def strips(about: Hashable, _surface: DamageSurface) -> dict[str, str]:
    """The surface as one strip of colours a unit."""
    return heat_strips(_surface.rates, dict(zip(_surface.units, _surface.loss, strict=True)))


def replaceability_panel(here: Session) -> None:
    """Does the paper's premise hold on this network? Every layer's agreement, and the chosen layer's filters."""
    st.markdown(
        "FPGM says: a filter near the others is **replaceable**. Here every filter is taken away in turn, the layers "
        "that read it are refitted by least squares on training images, and what they still lose is its **refit cost**."
    )
    found = refit_costs(here)
    if found is None:
        return
    if not found:
        st.info("No layer here is read by one that could be refitted, so there is nothing to measure.")
        return
    st.subheader(_verdict(found), anchor=False)
    st.caption("Of each layer's 95% interval: above 0 the premise holds, below 0 it is reversed, else undecided.")
    names = [one.layer for one in found]
    chosen = here.look.layer if here.look.layer in names else names[0]
    left, right = st.columns([1, 1], gap="medium")
    with left:
        key = ("agreement", here.look.plan.fingerprint, here.look.plan.coupling, chosen)
        st.plotly_chart(
            drawn(key, lambda: agreement_figure(found, chosen)),
            key="agreement",
            alt="rank correlation of g and of the norm with refit cost, layer by layer",
            on_select=callback(lambda now: _choose(now, names)),
            selection_mode="points",
            config={"displayModeBar": False},
        )
        st.caption("Click a layer to see its filters. Bars are 95% intervals: filters as a sample of what could be.")
    with right:
        _layer(here, next(one for one in found if one.layer == chosen))
    with st.expander("The numbers behind the picture"):
        st.dataframe(_table(found), hide_index=True)


def _verdict(found: tuple[Replaceability, ...]) -> str:
    words = [one.verdict.partition(":")[0] for one in found]
    counts = {word: words.count(word) for word in ("holds", "undecided", "reversed", "too few filters to tell")}
    parts = [f"{word} in {count}" for word, count in counts.items() if count]
    return f"The premise {', '.join(parts)} of {len(found)} layers"


def _choose(here: Session, names: list[str]) -> None:
    points = st.session_state.agreement.selection.points
    data = points[0].get("customdata") if points else None
    if data is not None:
        here.change(layer=names[first_number(data)], chosen=None)


def _layer(here: Session, one: Replaceability) -> None:
    st.markdown(f"**{one.layer}**: the premise {one.verdict}")
    states = filter_states(here) if one.layer == here.look.layer else FilterStates(np.ones(len(one.costs), dtype=bool))
    cost_view(here, one, states)


def cost_view(here: Session, one: Replaceability, states: FilterStates) -> None:
    """A layer's filters by g, or by norm, against refit cost."""
    by = st.segmented_control("Against", ["g", "L2 norm"], default="g", required=True, key="cost_by",
                              label_visibility="collapsed")  # fmt: skip
    by_norm = by == "L2 norm"
    rho = one.by_norm if by_norm else one.by_distance
    about = ("cost", here.look.plan.fingerprint, one.layer, by_norm, bytes(states.keep), tuple(states.locked))
    figure = drawn(about, lambda: cost_figure(one, states, by_norm=by_norm))
    st.plotly_chart(
        figure,
        key="costs",
        alt=f"{'norm' if by_norm else 'g'} against measured refit cost",
        config={"displayModeBar": False},
    )
    scale = ", on a log scale" if figure.layout.yaxis.type == "log" else ""
    st.caption(f"Exact{scale}. Rank correlation of {by} with refit cost: {told(rho)}.")


def told(interval: Interval | None) -> str:
    """A rank correlation with its interval in words."""
    return "too few filters to tell" if interval is None else interval.told()


def _table(found: tuple[Replaceability, ...]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "layer": [one.layer for one in found],
            "filters": [len(one.costs) for one in found],
            "g and refit cost": [told(one.by_distance) for one in found],
            "L2 norm and refit cost": [told(one.by_norm) for one in found],
            "the premise": [one.verdict for one in found],
        }
    )
