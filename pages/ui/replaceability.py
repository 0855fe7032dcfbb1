"""The page Replaceability: whether the filters nearest the others are the cheapest to replace, measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import streamlit as st

from fpgm_core.evaluation import Replaceability
from fpgm_core.figures import FilterStates, agreement_figure
from pages.ui.panels.pictures import cached_figure, clicked, filter_states, first_number
from pages.ui.panels.refit import correlation, cost_view, refit_costs
from pages.ui.session.session import Session, callback


def replaceability_page(session: Session) -> None:
    """Does the paper's premise hold on this network? Every layer's agreement, and the chosen layer's filters."""
    st.markdown(
        "FPGM's premise: a filter near the others is **replaceable**. Here each filter is removed in turn, the layers "
        "that read it are refitted by least squares on training images, and what they still lose is its **refit cost**."
    )
    layers = refit_costs(session)
    if layers is None:
        return
    if not layers:
        st.info("No layer here is read by one that could be refitted, so there is nothing to measure.")
        return
    st.subheader(_verdict(layers), anchor=False)
    st.caption("From each layer's 95% interval: above 0 the premise holds, below 0 it is reversed, else undecided.")
    names = [costs.layer for costs in layers]
    chosen = session.state.layer if session.state.layer in names else names[0]
    left, right = st.columns([1, 1], gap="medium")
    with left:
        _agreement(session, layers, chosen)
    with right:
        _layer(session, layers[names.index(chosen)])
    with st.expander("The numbers behind the picture"):
        st.dataframe(_table(layers), hide_index=True)


def _verdict(layers: Sequence[Replaceability]) -> str:
    verdicts = [costs.verdict.partition(":")[0] for costs in layers]
    counts = {word: verdicts.count(word) for word in ("holds", "undecided", "reversed", "too few filters to tell")}
    parts = [f"{word} in {count}" for word, count in counts.items() if count]
    return f"The premise {', '.join(parts)} of {len(layers)} layers"


def _agreement(session: Session, layers: Sequence[Replaceability], chosen: str) -> None:
    plan, names = session.state.plan, [costs.layer for costs in layers]
    st.plotly_chart(
        cached_figure(("agreement", plan.fingerprint, plan.coupling, chosen), lambda: agreement_figure(layers, chosen)),
        key="agreement",
        alt="rank correlation of g and of the norm with refit cost, layer by layer",
        on_select=callback(lambda session: _choose(session, names)),
        selection_mode="points",
        config={"displayModeBar": False},
    )
    st.caption("Click a layer to see its filters. Bars are 95% intervals: filters as a sample of what could be.")


def _choose(session: Session, names: Sequence[str]) -> None:
    point = clicked("agreement")
    if point is not None:
        session.change(layer=names[first_number(point)], chosen=None)


def _layer(session: Session, costs: Replaceability) -> None:
    st.markdown(f"**{costs.layer}**: the premise {costs.verdict}")
    on_screen = costs.layer == session.state.layer
    cost_view(session, costs, filter_states(session) if on_screen else FilterStates(np.ones(len(costs.costs), bool)))


def _table(layers: Sequence[Replaceability]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "layer": [costs.layer for costs in layers],
            "filters": [len(costs.costs) for costs in layers],
            "g and refit cost": [correlation(costs.by_distance) for costs in layers],
            "L2 norm and refit cost": [correlation(costs.by_norm) for costs in layers],
            "the premise": [costs.verdict for costs in layers],
        }
    )
