"""What the pages' pictures share: cached figures, filters' states, clicked points."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from fpgm_core.figures import FilterStates
from pages.ui.session.session import Session


@st.cache_resource(max_entries=256, show_spinner=False)
def cached_figure(key: Hashable, _build: Callable[[], go.Figure]) -> go.Figure:
    """A figure, built once for each key: most of the page stays as it was when a bar moves."""
    return _build()


def filter_states(session: Session) -> FilterStates:
    """What the plan on screen does with the chosen layer's filters."""
    plan, network = session.state.plan, session.network
    unit = network.unit_of(session.state.layer, plan.coupling)
    if unit is None:
        size = next(layer.filters for layer in network.layers if layer.name == session.state.layer)
        return FilterStates(np.ones(size, dtype=bool))
    locked = (*plan.locked_in.get(unit.name, ()), *plan.locked_out.get(unit.name, ()))
    return FilterStates(network.keep_mask(plan, unit), locked)


def clicked(chart: str) -> Any:
    """The customdata of the point last clicked in the chart of that key; None where there is none."""
    points = st.session_state[chart].selection.points
    return points[0].get("customdata") if points else None


def first_number(customdata: Any) -> int:
    """The first number of a clicked point's customdata: browsers send a list, or a mapping of indices."""
    if isinstance(customdata, dict):
        customdata = [customdata[key] for key in sorted(customdata, key=int)]
    return int(customdata[0] if isinstance(customdata, (list, tuple)) else customdata)
