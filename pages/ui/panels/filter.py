"""The chosen filter: its twin, its kernels, its lock, its rank under every criterion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from fpgm_core import CRITERIA, FpgmError, Network, SelectionOptions
from fpgm_core.criteria import get_criterion
from fpgm_core.figures import FilterStates, kernels_figure
from fpgm_core.graph import Unit, weights_of
from pages.ui.panels.layer_facts import LayerFacts
from pages.ui.panels.pictures import cached_figure
from pages.ui.session.session import Session, mirror

_LOCKS = {"free": None, "keep": "in", "prune": "out"}


def filter_panel(session: Session, facts: LayerFacts, states: FilterStates) -> None:
    """The filter's menu and lock, what is known of it, its kernels, its ranks."""
    state, network = session.state, session.network
    count = len(states.keep)
    chosen = facts.nearest if state.chosen is None else state.chosen
    pick, lock = st.columns([1, 1.4], vertical_alignment="bottom")
    pick.selectbox("Filter", range(count), **mirror("filter", chosen, _pick_filter, state.layer))
    _lock_control(session, lock, chosen)
    twin = facts.twin(chosen)
    notes = ["kept" if states.keep[chosen] else "**pruned**"]
    notes += ["the medoid"] if chosen == facts.medoid else []
    notes += ["nearest to the geometric median"] if chosen == facts.nearest else []
    if twin is not None:
        distance, mean = facts.distances[chosen, twin], facts.sums[chosen] / (count - 1)
        notes.append(f"nearest twin {twin}, at {distance:.3f} (mean distance {mean:.3f})")
    st.markdown(f"Filter **{chosen}**: {', '.join(notes)}")
    st.plotly_chart(
        cached_figure(
            ("kernels", network.fingerprint, state.layer, chosen, twin),
            lambda: kernels_figure(weights_of(network.module, state.layer).numpy(), chosen, twin=twin),
        ),
        key="kernels",
        alt=f"kernels of filter {chosen}, of its nearest twin, and their difference",
        config={"displayModeBar": False},
    )
    st.caption(f"Its rank of {count} under each criterion: 1 is pruned first.")
    st.dataframe(
        _ranks(session, chosen),
        hide_index=True,
        row_height=30,
        height="content",
        column_config={
            "rank": st.column_config.NumberColumn(width="small"),
            "of all": st.column_config.ProgressColumn(min_value=0, max_value=1, format=" "),
        },
    )


def _pick_filter(session: Session, chosen: int) -> None:
    session.change(chosen=int(chosen))


def _lock_control(session: Session, place: DeltaGenerator, chosen: int) -> None:
    plan = session.state.plan
    unit = session.network.unit_of(session.state.layer, plan.coupling)
    lock = "free"
    if unit is not None:
        lock = "keep" if chosen in plan.locked_in.get(unit.name, ()) else lock
        lock = "prune" if chosen in plan.locked_out.get(unit.name, ()) else lock
    place.segmented_control(
        "Lock",
        list(_LOCKS),
        required=True,
        disabled=unit is None,
        format_func=lambda name: {"free": "free", "keep": "🔒 keep", "prune": "🔒 prune"}[name],
        help="Locked filters are kept or pruned whatever their scores; the count stays what the rate says.",
        **mirror("lock", lock, lambda session, lock: _lock(session, chosen, lock), f"{session.state.layer}:{chosen}"),
    )


def _lock(session: Session, chosen: int, lock: str) -> None:
    unit = session.network.unit_of(session.state.layer, session.state.plan.coupling)
    if unit is not None:
        plan = session.state.plan.with_lock(unit.name, chosen, _LOCKS[lock])
        session.go(replace(session.state, plan=plan, chosen=chosen))


def _ranks(session: Session, chosen: int) -> pd.DataFrame:
    """The filter's rank under each criterion: 1 is pruned first."""
    network = session.network
    names = tuple(name for name in CRITERIA if network.has_scores(name))
    ranks = _all_ranks(network.fingerprint, session.state.layer, session.state.plan.options.seed, names, network)
    n = len(next(iter(ranks.values())))
    return pd.DataFrame(
        {
            "criterion": [get_criterion(name).title for name in ranks],
            "rank": [int(rank[chosen]) for rank in ranks.values()],
            "of all": [rank[chosen] / n for rank in ranks.values()],
        }
    )


@st.cache_resource(max_entries=512, show_spinner=False)
def _all_ranks(
    fingerprint: str, layer: str, seed: int, names: tuple[str, ...], _network: Network
) -> dict[str, np.ndarray]:
    alone, ranks = Unit(layer, (layer,), len(weights_of(_network.module, layer))), {}
    for name in names:
        if len(get_criterion(name).stages) > 1:
            continue  # what a staged selector prunes first depends on the rate
        try:
            scores = _network.scores(alone, name, SelectionOptions(seed=seed))
        except FpgmError:
            continue  # a criterion that has none for this layer
        ranks[name] = np.argsort(np.argsort(scores, kind="stable"), kind="stable") + 1
    return ranks
