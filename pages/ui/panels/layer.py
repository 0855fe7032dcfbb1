"""The chosen layer: what is true of it, and its linked pictures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from fpgm_core import Network
from fpgm_core.criteria import Projection
from fpgm_core.criteria.layouts import compute_layout
from fpgm_core.criteria.projections import UMAP_MINIMUM
from fpgm_core.figures import FilterStates, map_figure, norms_figure, radial_figure, scores_figure
from fpgm_core.graph import weights_of
from fpgm_core.runtime.progress import Progress, Work
from pages.ui.panels.filter import filter_panel
from pages.ui.panels.layer_facts import LayerFacts, exact_projection, layer_facts, stored_layout
from pages.ui.panels.pictures import cached_figure, clicked, filter_states, first_number
from pages.ui.panels.refit import cost_view, refit_costs
from pages.ui.session.jobs import layout_worker
from pages.ui.session.networks import diagnostics
from pages.ui.session.session import Session, callback, current_session, mirror
from pages.ui.session.view_state import MAPS, VIEWS


def layer_panel(session: Session) -> None:
    """Header, picture and filter of the chosen layer."""
    network, state = session.network, session.state
    _header(session)
    picture, side = st.columns([1.75, 1], gap="medium")
    states = filter_states(session)
    facts = layer_facts(network.fingerprint, state.layer, network)
    with picture:
        _VIEWS[state.view](session, facts, states)
        _data_table(facts, states)
    with side:
        filter_panel(session, facts, states)


def _header(session: Session) -> None:
    network, state = session.network, session.state
    left, views, summary = st.columns([1.15, 1.85, 2], vertical_alignment="bottom")
    names = [layer.name for layer in network.layers]
    left.selectbox("Layer", names, **mirror("layer", state.layer, _choose_layer))
    views.segmented_control(
        "View",
        VIEWS,
        required=True,
        label_visibility="collapsed",
        **mirror("view", state.view, lambda session, view: session.change(view=view)),
    )
    layer = next(layer for layer in network.layers if layer.name == state.layer)
    norms = diagnostics(network.fingerprint, network)[state.layer]
    unit, company = network.unit_of(state.layer, state.plan.coupling), _company(session)
    shared = network.overlap(state.plan, unit) if unit else None
    rho = "undefined" if norms.spearman is None else f"{norms.spearman:.3f}"
    summary.markdown(
        f"{layer.filters} filters of {' × '.join(map(str, layer.shape[1:]))} · {layer.share:.1%} of the MACs  \n"
        f"norm and FPGM: rank correlation **{rho}**, pruned sets share "
        f"**{'–' if shared is None else format(shared, '.0%')}** at this rate  \n"
        f"norms: spread {norms.spread:.2f}, floor {norms.floor:.2f}" + (f"  \n{company}" if company else "")
    )


def _company(session: Session) -> str:
    """What the layer moves with, or why it stays whole; empty where it moves alone."""
    network, layer, coupling = session.network, session.state.layer, session.state.plan.coupling
    unit = network.unit_of(layer, coupling)
    if unit is None:
        return f"stays whole: {network.refusals(coupling).get(layer, 'removal does not follow it')}"
    others = [member for member in unit.members if member != layer]
    more = f" and {len(others) - 3} more" if len(others) > 3 else ""
    return f"moves with {', '.join(others[:3])}{more}" if others else ""


def _choose_layer(session: Session, layer: str) -> None:
    session.change(layer=layer, chosen=None)


def _scores(session: Session, facts: LayerFacts, states: FilterStates) -> None:
    count = int((~states.keep).sum())
    figure = _cached(session, states, lambda: scores_figure(facts.norms, facts.sums, states=states, count=count))
    _chart(figure, "norm against g, exact")
    st.caption("Exact. A norm prunes what is left of the vertical line, FPGM what is below the horizontal one.")


def _radial(session: Session, facts: LayerFacts, states: FilterStates) -> None:
    projection = exact_projection(session.network.fingerprint, session.state.layer, "radial", session.network)
    figure = _cached(session, states, lambda: radial_figure(projection, states))
    _chart(figure, "distance of every filter to the geometric median")
    st.caption("Exact: each filter at its true distance from the geometric median. Angles are PCA's.")


def _norms(session: Session, facts: LayerFacts, states: FilterStates) -> None:
    figures = diagnostics(session.network.fingerprint, session.network)
    layer = session.state.layer
    figure = _cached(session, states, lambda: norms_figure(facts.norms, states, layer=layer, diagnostics=figures))
    _chart(figure, "the layer's norms and the two requirements")
    st.caption("A norm criterion needs a large spread and a floor near 0: the upper left corner on the right.")


def _refit_cost(session: Session, facts: LayerFacts, states: FilterStates) -> None:
    layers = refit_costs(session)
    costs = next((costs for costs in layers or () if costs.layer == session.state.layer), None)
    if costs is not None:
        cost_view(session, costs, states)
    elif layers is not None:
        st.info(
            "No layer that could be refitted reads this one under this coupling, so its filters have no refit cost."
        )


def _cached(session: Session, states: FilterStates, build: Callable[[], go.Figure]) -> go.Figure:
    """The figure of the view on screen, built anew only where the layer or its filters' states changed."""
    state = session.state
    key = (state.view, session.network.fingerprint, state.layer, states.keep.tobytes(), tuple(states.locked))
    figure: go.Figure = cached_figure(key, build)
    return figure


def _chart(figure: go.Figure, alt: str) -> None:
    """The picture; clicking a filter chooses it."""
    st.plotly_chart(
        figure,
        key="picture",
        alt=alt,
        on_select=callback(_choose_filter),
        selection_mode="points",
        config={"displayModeBar": False, "scrollZoom": True},
    )


def _choose_filter(session: Session) -> None:
    point = clicked("picture")
    if point is not None:
        session.change(chosen=first_number(point))


def _map(session: Session, facts: LayerFacts, states: FilterStates) -> None:
    network, state = session.network, session.state
    _map_options(session)
    if state.mapping == "UMAP" and len(states.keep) >= UMAP_MINIMUM:
        layout = stored_layout(network.fingerprint, state.layer, state.seed, network)
        if layout is not None:
            _draw_map(layout, states)
        else:
            _umap_when_ready(network.fingerprint, states)
        return
    if state.mapping == "UMAP":
        st.info(f"UMAP means nothing for fewer than {UMAP_MINIMUM} filters; this is PCA.")
    _draw_map(exact_projection(network.fingerprint, state.layer, "pca", network), states)


def _map_options(session: Session) -> None:
    method, seed = st.columns([1, 1], vertical_alignment="center")
    method.segmented_control(
        "Map",
        MAPS,
        required=True,
        label_visibility="collapsed",
        **mirror("mapping", session.state.mapping, lambda session, mapping: session.change(mapping=mapping)),
    )
    if session.state.mapping == "UMAP":
        seed.selectbox(
            "Seed",
            sorted({0, 1, 2, 3, 4, session.state.seed}),
            format_func=lambda value: f"seed {value}",
            label_visibility="collapsed",
            **mirror("seed", session.state.seed, lambda session, seed: session.change(seed=seed)),
        )


@st.fragment(run_every=0.5)
def _umap_when_ready(fingerprint: str, states: FilterStates) -> None:
    """PCA at once, and word that UMAP is coming; UMAP in its place when it is computed."""
    session = current_session()
    network, layer, seed = session.network, session.state.layer, session.state.seed
    key = ("layout", network.fingerprint, layer, seed)
    job = session.jobs.get("layout", key) or session.jobs.start(
        "layout", lambda: _layout_work(network, layer, seed), key=key, worker=layout_worker()
    )
    if job.result is not None:
        stored_layout.clear(fingerprint, layer, seed)
        st.rerun()
    if job.error:
        st.warning(f"UMAP failed on this layer ({job.error}); this is PCA.")
    else:
        st.info(
            "UMAP is being computed (its first use on a server takes half a minute); until then this is PCA.", icon="⏳"
        )
    _draw_map(exact_projection(fingerprint, layer, "pca", network), states)


def _layout_work(network: Network, layer: str, seed: int) -> Work[Projection]:
    yield Progress(0.0, what="computing UMAP")  # one step: nothing can be told on the way
    return compute_layout(network.fingerprint, layer, weights_of(network.module, layer), seed)


def _draw_map(projection: Projection, states: FilterStates) -> None:
    _chart(map_figure(projection, states), f"{projection.method.upper()} of the filters with their geometric median")
    trust = projection.faithfulness

    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.2f}"

    star = "its position is exact (PCA is linear)" if projection.exact_median else "its position is approximate"
    st.caption(
        f"Positions are approximate, colours exact. ★ geometric median: {star}. Faithfulness: trustworthiness "
        f"{number(trust.trustworthiness)}, distances ρ {number(trust.distances)}, "
        f"to the median ρ {number(trust.to_median)}."
    )


def _data_table(facts: LayerFacts, states: FilterStates) -> None:
    columns = {
        "filter": np.arange(len(facts.norms)),
        "state": np.where(states.keep, "kept", "pruned"),
        "locked": [index in states.locked for index in range(len(facts.norms))],
        "L2 norm": facts.norms,
        "g": facts.sums,
        "to median": facts.to_median,
    }
    with st.expander("The numbers behind the picture"):
        st.dataframe(pd.DataFrame(columns), hide_index=True, height=240)


_VIEWS: dict[str, Callable[[Session, LayerFacts, FilterStates], None]] = {
    "Scores": _scores,
    "Map": _map,
    "Radial": _radial,
    "Norms": _norms,
    "Refit cost": _refit_cost,
}
