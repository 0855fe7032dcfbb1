"""The view Replaceability: are the filters nearest the others cheap to lose, and are they replaceable?"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from fpgm_core.evaluation import QUESTIONS, Replaceability, answers_told
from fpgm_core.figures import agreement_figure
from pages.ui.panels.layer_views import correlation
from pages.ui.panels.pictures import cached_figure, clicked_index
from pages.ui.session.networks import network_key
from pages.ui.session.session import Session, callback


def replaceability_view(session: Session, layers: Sequence[Replaceability]) -> None:
    """Does the paper's premise hold on this network? What every question's answer is, layer by layer."""
    st.markdown(
        "FPGM's premise: a filter near the others is **replaceable**. Here each filter is removed in turn, and the "
        "layers that read it are refitted by least squares on training images. What they still lose is its **refit "
        "cost**; the **share made good** is how much less that is than without the refit. A filter that does little is "
        "cheap to lose, whether or not another can do its work."
    )
    if not layers:
        st.info("No layer here is read by one that could be refitted, so there is nothing to measure.")
        return
    *told, parted = answers_told(layers)
    st.subheader(parted, anchor=False)
    st.markdown("\n".join(f"- {said}" for said in told))
    names = [costs.layer for costs in layers]
    chosen = session.state.layer if session.state.layer in names else names[0]
    _agreement(session, layers, chosen)
    answers = layers[names.index(chosen)].by_distance.values()
    st.markdown("\n".join([f"**{chosen}**\n", *(f"- {answer.question.asks} {answer.told}" for answer in answers)]))
    with st.expander("The numbers behind the picture"):
        st.dataframe(_table(layers), hide_index=True)


def _agreement(session: Session, layers: Sequence[Replaceability], chosen: str) -> None:
    names = [costs.layer for costs in layers]
    key = ("agreement", *network_key(session.network), session.state.plan.coupling, chosen)
    st.plotly_chart(
        cached_figure(key, lambda: agreement_figure(layers, chosen)),
        key="agreement",
        alt="rank correlations of g and of the norm with refit cost and share made good, layer by layer",
        on_select=callback(lambda session: _choose(session, names)),
        selection_mode="points",
        config={"displayModeBar": False},
    )
    st.caption(
        "Click a layer to see its filters above. Bars are each layer's own 95% interval: filters as a sample of what "
        "could be. Filled: the interval leaves out 0 even when Holm's method widens it, so that a question's verdicts "
        "are all right together 95 times in 100."
    )


def _choose(session: Session, names: Sequence[str]) -> None:
    index = clicked_index("agreement", len(names))
    if index is not None:
        session.change(layer=names[index], chosen=None)


def _table(layers: Sequence[Replaceability]) -> pd.DataFrame:
    columns: dict[str, list[object]] = {
        "layer": [costs.layer for costs in layers],
        "filters": [len(costs.costs) for costs in layers],
    }
    for question in QUESTIONS.values():
        columns[question.pair] = [correlation(costs.by_distance[question.name].interval) for costs in layers]
        norms = [costs.by_norm.get(question.name) for costs in layers]
        if any(norms):
            pair = question.pair.replace("g ", "L2 norm ", 1)
            columns[pair] = [correlation(finding.interval if finding else None) for finding in norms]
        columns[f"{question.pair}: verdict"] = [costs.by_distance[question.name].verdict for costs in layers]
    return pd.DataFrame(columns)
