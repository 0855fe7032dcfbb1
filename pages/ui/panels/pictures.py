"""What the pages' charts share: cached figures, clicked points."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping

import plotly.graph_objects as go
import streamlit as st

from fpgm_core.figures import LABELS
from fpgm_core.lesson import Words
from pages.ui.components.incoming import read_point
from pages.ui.session.kept import kept


@kept
def cached_figure(key: Hashable, _build: Callable[[], go.Figure]) -> go.Figure:
    """A figure, built once for each key: most of the page stays as it was when a bar moves."""
    return _build()


def labels_of(words: Words) -> Mapping[str, str]:
    """What figures say, in a language."""
    return {**LABELS, **words.under("chart")}


def clicked(chart: str) -> list[float] | None:
    """The numbers of the point last clicked in the chart of that key; None where there is none."""
    selection = getattr(st.session_state.get(chart), "selection", None)
    return read_point(getattr(selection, "points", None))


def clicked_index(chart: str, count: int) -> int | None:
    """The first number of the clicked point, where it is one of `count` indices."""
    point = clicked(chart)
    return int(point[0]) if point and point[0].is_integer() and 0 <= point[0] < count else None
