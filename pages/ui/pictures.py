"""What the pages' pictures share: figures kept while they stay the same, filters' states, clicked points."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from fpgm_core.figures import FilterStates
from pages.ui.sitting import Session


@st.cache_resource(max_entries=256, show_spinner=False)
def drawn(about: Hashable, _build: Callable[[], go.Figure]) -> go.Figure:
    """A figure, built where one `about` the same was not yet: most of the page stays as it was when a bar moves."""
    return _build()


def filter_states(here: Session) -> FilterStates:
    """What the plan on screen does with the chosen layer's filters."""
    plan, network = here.look.plan, here.network
    unit = network.unit_of(here.look.layer, plan.coupling)
    if unit is None:
        size = next(layer.filters for layer in network.layers if layer.name == here.look.layer)
        return FilterStates(np.ones(size, dtype=bool))
    locked = (*plan.locked_in.get(unit.name, ()), *plan.locked_out.get(unit.name, ()))
    return FilterStates(network.keep_mask(plan, unit), locked)


def first_number(customdata: Any) -> int:
    """The first number of a clicked point's customdata: browsers send a list, or a mapping of places."""
    if isinstance(customdata, dict):
        customdata = [customdata[key] for key in sorted(customdata, key=int)]
    return int(customdata[0] if isinstance(customdata, (list, tuple)) else customdata)
