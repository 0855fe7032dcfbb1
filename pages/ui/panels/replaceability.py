"""The view Replaceability: whether the filters nearest the others are the cheapest to replace, measured."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from fpgm_core.evaluation import Interval, Replaceability
from fpgm_core.figures import agreement_figure
from pages.ui.panels.pictures import cached_figure, clicked, first_number
from pages.ui.session.session import Session, callback


def replaceability_view(session: Session, layers: Sequence[Replaceability]) -> None:
    """Does the paper's premise hold on this network? Every layer's agreement of g, and of the norm, with refit cost."""
    st.markdown(
        "FPGM's premise: a filter near the others is **replaceable**. Here each filter is removed in turn, the layers "
        "that read it are refitted by least squares on training images, and what they still lose is its **refit cost**."
    )
    if not layers:
        st.info("No layer here is read by one that could be refitted, so there is nothing to measure.")
        return
    st.subheader(_verdict(layers), anchor=False)
    st.caption("From each layer's 95% interval: above 0 the premise holds, below 0 it is reversed, else undecided.")
    names = [costs.layer for costs in layers]
    _agreement(session, layers, session.state.layer if session.state.layer in names else names[0])
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
    st.caption("Click a layer to see its filters above. Bars are 95% intervals: filters as a sample of what could be.")


def _choose(session: Session, names: Sequence[str]) -> None:
    point = clicked("agreement")
    if point is not None:
        session.change(layer=names[first_number(point)], chosen=None)


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


def correlation(interval: Interval | None) -> str:
    """A rank correlation with its interval in words."""
    return "too few filters to tell" if interval is None else interval.told()
