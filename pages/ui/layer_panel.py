"""The chosen layer: its linked pictures, and the chosen filter beside them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from fpgm_core import CRITERIA, FpgmError, Network, SelectionOptions
from fpgm_core.criteria import (
    Projection,
    geometric_median,
    get_criterion,
    medoid,
    pairwise_distances,
    pca,
    radial,
)
from fpgm_core.criteria.layouts import known_layout
from fpgm_core.criteria.projections import UMAP_MINIMUM
from fpgm_core.figures import (
    FilterStates,
    kernels_figure,
    map_figure,
    norms_figure,
    radial_figure,
    scores_figure,
)
from fpgm_core.graph import Unit, weights_of
from pages.ui.jobs import layout_jobs
from pages.ui.pictures import drawn, filter_states, first_number
from pages.ui.replaceable import cost_view, refit_costs
from pages.ui.sitting import Session, callback, diagnostics, mirror, sitting
from pages.ui.state import MAPS, VIEWS

_LOCKS = {"free": None, "keep": "in", "prune": "out"}


@dataclass(frozen=True, eq=False)
class LayerFacts:
    """What is true of a layer's N filters whatever the plan: computed once, shared by every session."""

    norms: np.ndarray
    sums: np.ndarray
    to_median: np.ndarray
    distances: np.ndarray
    medoid: int
    nearest: int


@st.cache_resource(max_entries=512, show_spinner=False)
def facts(fingerprint: str, layer: str, _network: Network) -> LayerFacts:
    """The exact figures of a layer's filters."""
    weights = weights_of(_network.module, layer)
    median = geometric_median(weights)
    return LayerFacts(
        CRITERIA["l2_norm"].score(weights).numpy(),
        CRITERIA["fpgm"].score(weights).numpy(),
        median.distances.numpy(),
        pairwise_distances(weights).numpy(),
        medoid(weights),
        median.nearest,
    )


@st.cache_resource(max_entries=512, show_spinner=False)
def exact_projection(fingerprint: str, layer: str, method: str, _network: Network) -> Projection:
    """The PCA or radial picture of a layer."""
    return {"pca": pca, "radial": radial}[method](weights_of(_network.module, layer))


@st.cache_resource(max_entries=512, show_spinner=False)
def stored_layout(fingerprint: str, layer: str, seed: int, _network: Network) -> Projection | None:
    """The UMAP of a layer where it was computed in an earlier sitting, or ships with the network."""
    return known_layout(fingerprint, layer, weights_of(_network.module, layer), seed)


def layer_panel(here: Session) -> None:
    """Header, picture and filter of the chosen layer."""
    network, look = here.network, here.look
    _header(here)
    picture, side = st.columns([1.75, 1], gap="medium")
    states = filter_states(here)
    known = facts(network.fingerprint, look.layer, network)
    with picture:
        _picture(here, known, states)
    with side:
        _filter_panel(here, known, states)


def _header(here: Session) -> None:
    network, look = here.network, here.look
    left, views, told = st.columns([1.15, 1.85, 2], vertical_alignment="bottom")
    names = [layer.name for layer in network.layers]
    left.selectbox("Layer", names, **mirror("layer", look.layer, _choose_layer))
    views.segmented_control(
        "View", VIEWS, required=True, label_visibility="collapsed", **mirror("view", look.view, _choose_view)
    )
    layer = next(layer for layer in network.layers if layer.name == look.layer)
    norms = diagnostics(network.fingerprint, network)[look.layer]
    unit, company = network.unit_of(look.layer, look.plan.coupling), _company(here)
    shared = network.overlap(look.plan, unit) if unit else None
    rho = "undefined" if norms.spearman is None else f"{norms.spearman:.3f}"
    told.markdown(
        f"{layer.filters} filters of {' × '.join(map(str, layer.shape[1:]))} · {layer.share:.1%} of the MACs  \n"
        f"norm and FPGM: rank correlation **{rho}**, pruned sets share "
        f"**{'–' if shared is None else format(shared, '.0%')}** at this rate  \n"
        f"norms: spread {norms.spread:.2f}, floor {norms.floor:.2f}" + (f"  \n{company}" if company else "")
    )


def _company(here: Session) -> str:
    """What the layer moves with, or why it stays whole."""
    network, coupling = here.network, here.look.plan.coupling
    unit = network.unit_of(here.look.layer, coupling)
    if unit is None:
        return f"stays whole: {network.refusals(coupling).get(here.look.layer, 'removal does not follow it')}"
    others = [member for member in unit.members if member != here.look.layer]
    return (
        f"moves with {', '.join(others[:3])}{f' and {len(others) - 3} more' if len(others) > 3 else ''}"
        if others
        else ""
    )


def _choose_layer(here: Session, layer: str) -> None:
    here.change(layer=layer, chosen=None)


def _choose_view(here: Session, view: str) -> None:
    here.change(view=view)


def _picture(here: Session, known: LayerFacts, states: FilterStates) -> None:
    look = here.look
    about = (look.view, here.network.fingerprint, look.layer, states.keep.tobytes(), tuple(states.locked))
    if look.view == "Scores":
        count = int((~states.keep).sum())
        figure = drawn(about, lambda: scores_figure(known.norms, known.sums, states=states, count=count))
        _chart(figure, "norm against g, exact")
        st.caption("Exact. Left of the vertical line a norm prunes; below the horizontal one FPGM does.")
    elif look.view == "Map":
        _map_options(here)
        _map(here, states)
    elif look.view == "Radial":
        projection = exact_projection(here.network.fingerprint, look.layer, "radial", here.network)
        figure = drawn(about, lambda: radial_figure(projection, states))
        _chart(figure, "distance of every filter to the geometric median")
        st.caption("Exact: each filter at its true distance from the geometric median. Angles are PCA's.")
    elif look.view == "Refit cost":
        _costs(here, states)
    else:
        figures = diagnostics(here.network.fingerprint, here.network)
        figure = drawn(about, lambda: norms_figure(known.norms, states, layer=look.layer, diagnostics=figures))
        _chart(figure, "the layer's norms and the two requirements")
        st.caption("The norm criterion wants a large spread and a floor near 0: the upper left corner on the right.")
    _data_table(known, states)


def _costs(here: Session, states: FilterStates) -> None:
    found = refit_costs(here)
    one = next((one for one in found or () if one.layer == here.look.layer), None)
    if one is not None:
        cost_view(here, one, states)
    elif found is not None:
        st.info(
            "Nobody that could be refitted reads this layer under this coupling, so its filters have no refit cost."
        )


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


def _choose_filter(here: Session) -> None:
    points = st.session_state.picture.selection.points
    data = points[0].get("customdata") if points else None
    if data is not None:
        here.change(chosen=first_number(data))


def _map_options(here: Session) -> None:
    which, seed = st.columns([1, 1], vertical_alignment="center")
    which.segmented_control(
        "Map",
        MAPS,
        required=True,
        label_visibility="collapsed",
        **mirror("mapping", here.look.mapping, lambda now, mapping: now.change(mapping=mapping)),
    )
    if here.look.mapping == "UMAP":
        seed.selectbox(
            "Seed",
            sorted({0, 1, 2, 3, 4, here.look.seed}),
            format_func=lambda value: f"seed {value}",
            label_visibility="collapsed",
            **mirror("seed", here.look.seed, lambda now, seed: now.change(seed=seed)),
        )


def _map(here: Session, states: FilterStates) -> None:
    network, look = here.network, here.look
    if look.mapping == "UMAP" and len(states.keep) >= UMAP_MINIMUM:
        known = stored_layout(network.fingerprint, look.layer, look.seed, network)
        if known is not None:
            _drawn_map(known, states)
        else:
            _umap_when_ready(network.fingerprint, states)
        return
    if look.mapping == "UMAP":
        st.info(f"UMAP means nothing under {UMAP_MINIMUM} filters; this is PCA.")
    _drawn_map(exact_projection(network.fingerprint, look.layer, "pca", network), states)


@st.fragment(run_every=0.5)
def _umap_when_ready(fingerprint: str, states: FilterStates) -> None:
    """PCA at once, with progress; UMAP in its place when it is computed."""
    here = sitting()
    look = here.look
    layout = layout_jobs().request(here.network, look.layer, look.seed)
    if isinstance(layout, Projection):
        stored_layout.clear(fingerprint, look.layer, look.seed)
        st.rerun()
    if isinstance(layout, str):
        st.warning(f"{layout}; this is PCA.")
    else:
        st.info("UMAP is being computed (its first use in a server takes half a minute); until then PCA.", icon="⏳")
    _drawn_map(exact_projection(fingerprint, look.layer, "pca", here.network), states)


def _drawn_map(projection: Projection, states: FilterStates) -> None:
    _chart(map_figure(projection, states), f"{projection.method.upper()} of the filters with their geometric median")
    trust = projection.faithfulness

    def told(value: float | None) -> str:
        return "–" if value is None else f"{value:.2f}"

    star = "its place is exact (PCA is linear)" if projection.exact_median else "its place is approximate"
    st.caption(
        f"Positions are approximate, colours exact. ★ geometric median: {star}. Faithfulness: trustworthiness "
        f"{told(trust.trustworthiness)}, distances ρ {told(trust.distances)}, to the median ρ {told(trust.to_median)}."
    )


def _data_table(known: LayerFacts, states: FilterStates) -> None:
    with st.expander("The numbers behind the picture"):
        st.dataframe(
            pd.DataFrame(
                {
                    "filter": np.arange(len(known.norms)),
                    "state": np.where(states.keep, "kept", "pruned"),
                    "locked": [index in states.locked for index in range(len(known.norms))],
                    "L2 norm": known.norms,
                    "g": known.sums,
                    "to median": known.to_median,
                }
            ),
            hide_index=True,
            height=240,
        )


def _filter_panel(here: Session, known: LayerFacts, states: FilterStates) -> None:
    look, network = here.look, here.network
    n = len(states.keep)
    chosen = known.nearest if look.chosen is None else look.chosen
    pick, lock = st.columns([1, 1.4], vertical_alignment="bottom")
    pick.selectbox("Filter", range(n), **mirror("filter", chosen, _pick_filter, look.layer))
    _lock_control(here, lock, chosen)
    others = known.distances[chosen].copy()
    others[chosen] = np.inf
    twin = int(others.argmin()) if n > 1 else None
    notes = ["kept" if states.keep[chosen] else "**pruned**"]
    notes += ["the medoid"] if chosen == known.medoid else []
    notes += ["nearest to the geometric median"] if chosen == known.nearest else []
    if twin is not None:
        notes.append(f"nearest twin {twin}, at {others[twin]:.3f} (mean distance {known.sums[chosen] / (n - 1):.3f})")
    st.markdown(f"Filter **{chosen}**: {', '.join(notes)}")
    st.plotly_chart(
        drawn(
            ("kernels", network.fingerprint, look.layer, chosen, twin),
            lambda: kernels_figure(weights_of(network.module, look.layer).numpy(), chosen, twin=twin),
        ),
        key="kernels",
        alt=f"kernels of filter {chosen}, of its nearest twin, and their difference",
        config={"displayModeBar": False},
    )
    st.caption(f"Its rank under each criterion, of {n}: 1 is pruned first.")
    st.dataframe(
        _ranks(here, chosen),
        hide_index=True,
        row_height=30,
        height="content",
        column_config={
            "rank": st.column_config.NumberColumn(width="small"),
            "of all": st.column_config.ProgressColumn(min_value=0, max_value=1, format=" "),
        },
    )


def _pick_filter(here: Session, chosen: int) -> None:
    here.change(chosen=int(chosen))


def _lock_control(here: Session, place: DeltaGenerator, chosen: int) -> None:
    plan = here.look.plan
    unit = here.network.unit_of(here.look.layer, plan.coupling)
    state = "free"
    if unit is not None:
        state = "keep" if chosen in plan.locked_in.get(unit.name, ()) else state
        state = "prune" if chosen in plan.locked_out.get(unit.name, ()) else state
    place.segmented_control(
        "Lock",
        list(_LOCKS),
        required=True,
        disabled=unit is None,
        format_func=lambda name: {"free": "free", "keep": "🔒 keep", "prune": "🔒 prune"}[name],
        help="Locked filters are kept or pruned whatever their scores; the count stays what the rate says.",
        **mirror("lock", state, lambda now, wanted: _lock(now, chosen, wanted), f"{here.look.layer}:{chosen}"),
    )


def _lock(here: Session, chosen: int, wanted: str) -> None:
    unit = here.network.unit_of(here.look.layer, here.look.plan.coupling)
    if unit is not None:
        plan = here.look.plan.with_lock(unit.name, chosen, _LOCKS[wanted])
        here.go(replace(here.look, plan=plan, chosen=chosen))


def _ranks(here: Session, chosen: int) -> pd.DataFrame:
    """The filter's rank under each criterion: 1 is pruned first."""
    network = here.network
    names = tuple(name for name in CRITERIA if network.has_scores(name))
    ranks = _all_ranks(network.fingerprint, here.look.layer, here.look.plan.options.seed, names, network)
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
