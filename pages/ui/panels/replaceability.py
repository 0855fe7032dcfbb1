"""The view Replaceability: are the filters nearest the others cheap to lose, and are they replaceable?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from fpgm_core.evaluation import QUESTIONS, Replaceability
from fpgm_core.figures import agreement_figure
from fpgm_core.lesson import Words, layer_says, network_says
from pages.ui.panels.layer_views import correlation
from pages.ui.panels.pictures import cached_figure, clicked_index, labels_of
from pages.ui.session.networks import network_key
from pages.ui.session.session import Session
from pages.ui.session.widgets import callback


def replaceability_view(session: Session, layers: Sequence[Replaceability]) -> None:
    """Does the paper's premise hold on this network? What every question's answer is, layer by layer."""
    words = session.words
    st.markdown(words("premise.about"))
    if not layers:
        st.info(words("premise.nothing"))
        return
    *told, parted = network_says(layers, session.network, words=words) or [words("replaceable.few")]
    st.subheader(parted, anchor=False)
    st.markdown("\n".join(f"- {said}" for said in told))
    names = [costs.layer for costs in layers]
    chosen = session.state.layer if session.state.layer in names else names[0]
    _agreement(session, layers, chosen)
    answers = layer_says(layers[names.index(chosen)], words)
    st.markdown("\n".join([f"**{chosen}**\n", *(f"- {answer}" for answer in answers)]))
    with st.expander(words("picture.numbers")):
        st.dataframe(_table(layers, labels_of(words), words), hide_index=True)


def _agreement(session: Session, layers: Sequence[Replaceability], chosen: str) -> None:
    names, words = [costs.layer for costs in layers], session.words
    key = ("agreement", words.language, *network_key(session.network), session.state.plan.coupling, chosen)
    st.plotly_chart(
        cached_figure(key, lambda: agreement_figure(layers, chosen, labels_of(words))),
        key="agreement",
        alt=words("premise.alt"),
        on_select=callback(lambda session: _choose(session, names)),
        selection_mode="points",
        config={"displayModeBar": False},
    )
    st.caption(words("premise.caption"))


def _choose(session: Session, names: Sequence[str]) -> None:
    index = clicked_index("agreement", len(names))
    if index is not None:
        session.change(layer=names[index], chosen=None)


def _table(layers: Sequence[Replaceability], labels: Mapping[str, str], words: Words) -> pd.DataFrame:
    columns: dict[str, list[object]] = {
        words("sheet.layer"): [costs.layer for costs in layers],
        words("figure.filters"): [len(costs.costs) for costs in layers],
    }
    for name in QUESTIONS:
        pair = labels[f"pair_{name}"]
        columns[pair] = [correlation(costs.by_distance[name].interval) for costs in layers]
        norms = [costs.by_norm.get(name) for costs in layers]
        if any(norms):
            of_norm = pair.replace("g", labels["norm"], 1)
            columns[of_norm] = [correlation(finding.interval if finding else None) for finding in norms]
        columns[words("premise.verdict", pair=pair)] = [
            labels[f"verdict_{costs.by_distance[name].verdict}"] for costs in layers
        ]
    return pd.DataFrame(columns)
