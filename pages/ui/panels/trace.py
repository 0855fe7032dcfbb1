"""The trace: what was measured of the network on screen, in this sitting and earlier ones; one click back to each."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from fpgm_core.evaluation import HistoryEntry
from fpgm_core.figures import TracePoint, trace_figure
from fpgm_core.lesson import Words
from pages.ui.panels.pictures import cached_figure, clicked_index, labels_of
from pages.ui.panels.plan_list import comparable_entries, dense_point, point_of, restore, top5_column
from pages.ui.session.session import Session
from pages.ui.session.widgets import callback

_MOST = 200  # points


def trace_panel(session: Session) -> None:
    """Accuracy against MACs of the latest plans that were measured of the network on screen."""
    words = session.words
    entries = comparable_entries(session, _MOST)[::-1]
    st.subheader(words("trace.title"), anchor=False)
    if not entries:
        st.caption(words("trace.empty"))
        return
    points, dense = [point_of(entry, words) for entry in entries], dense_point(entries, words)
    labels = labels_of(words)
    on_screen = next((i for i, entry in enumerate(entries) if is_on_screen(session, entry)), None)
    chart, table = st.columns([1.75, 1], gap="medium")
    with chart:
        st.plotly_chart(
            cached_figure(
                ("trace", on_screen, dense, *points),
                lambda: trace_figure(points, dense, current=on_screen, labels=labels),
            ),
            key="trace",
            alt=words("trace.alt"),
            on_select=callback(_go_back),
            selection_mode="points",
            config={"displayModeBar": False},
        )
        st.caption(words("trace.caption"))
    with table:
        _table(entries, points, words)
        st.page_link(
            "pages/5_Choose.py", label=words("history.open"),
            query_params={"view": "history"},
        )  # fmt: skip


def is_on_screen(session: Session, entry: HistoryEntry) -> bool:
    """Whether an entry is the plan on screen, on its rung."""
    return (entry.plan, entry.method) == (session.state.plan, session.state.method)


def _table(entries: Sequence[HistoryEntry], points: Sequence[TracePoint], words: Words) -> None:
    columns = {
        words("sheet.macs_cut"): [100 * (1 - entry.macs / entry.dense_macs) for entry in entries],
        words("sheet.accuracy"): [100 * entry.accuracy.value for entry in entries],
        words("sheet.change"): [100 * entry.change.value for entry in entries],
        **top5_column(entries, words),
    }
    st.dataframe(
        pd.DataFrame({words("sheet.plan"): [point.label for point in points], **columns}),
        hide_index=True,
        height=270,
        column_config={name: st.column_config.NumberColumn(format="%.2f") for name in columns},
    )


def _go_back(session: Session) -> None:
    entries = comparable_entries(session, _MOST)[::-1]
    index = clicked_index("trace", len(entries))
    if index is not None:
        restore(session, entries[index])
