"""What the pages' charts share: cached figures, clicked points."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from fpgm_core.figures import LABELS
from fpgm_core.lesson import Words


@st.cache_resource(max_entries=256, show_spinner=False)
def cached_figure(key: Hashable, _build: Callable[[], go.Figure]) -> go.Figure:
    """A figure, built once for each key: most of the page stays as it was when a bar moves."""
    return _build()


def labels_of(words: Words) -> Mapping[str, str]:
    """What figures say, in a language."""
    return {**LABELS, **words.under("chart")}


def clicked(chart: str) -> Any:
    """The customdata of the point last clicked in the chart of that key; None where there is none."""
    points = st.session_state[chart].selection.points
    return points[0].get("customdata") if points else None


def first_number(customdata: Any) -> int:
    """The first number of a clicked point's customdata: browsers send a list, or a mapping of indices."""
    if isinstance(customdata, dict):
        customdata = [customdata[key] for key in sorted(customdata, key=int)]
    return int(customdata[0] if isinstance(customdata, (list, tuple)) else customdata)
