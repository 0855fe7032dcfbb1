"""The trace: every plan tried in this session, one click back to each."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from fpgm_core import COUPLINGS
from fpgm_core.criteria import get_criterion
from fpgm_core.evaluation import wilson
from fpgm_core.figures import TracePoint, trace_figure
from fpgm_core.lesson import Words
from fpgm_core.recovery import get_recovery_method
from pages.ui.panels.pictures import cached_figure, clicked_index, labels_of
from pages.ui.session.session import Session, TriedPlan, callback
from pages.ui.session.view_state import ViewState


def trace_panel(session: Session) -> None:
    """Accuracy against MACs of the tried plans of the network on screen."""
    tried, words = _of_this_network(session), session.words
    st.subheader(words("trace.title"), anchor=False)
    if not tried:
        st.caption(words("trace.empty"))
        return
    labels = labels_of(words)
    points = [TracePoint(_label(plan, words), plan.cost.macs, plan.measurement.accuracy) for plan in tried]
    last = tried[-1].measurement
    dense = TracePoint(
        labels["dense"], session.network.dense_cost.macs, wilson(last.num_dense_correct, last.num_images)
    )
    on_screen = next((i for i, plan in enumerate(tried) if _is_on_screen(session, plan)), None)
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
        _table(tried, points, dense, words)


def _table(tried: list[TriedPlan], points: list[TracePoint], dense: TracePoint, words: Words) -> None:
    top5 = [plan.measurement.top5 and 100 * plan.measurement.top5.value for plan in tried]
    columns = {
        words("sheet.macs_cut"): [100 * (1 - plan.cost.macs / dense.macs) for plan in tried],
        words("sheet.accuracy"): [100 * point.accuracy.value for point in points],
        words("sheet.change"): [100 * plan.measurement.change.value for plan in tried],
        **({words("sheet.top5"): top5} if any(share is not None for share in top5) else {}),
    }
    st.dataframe(
        pd.DataFrame({words("sheet.plan"): [point.label for point in points], **columns}),
        hide_index=True,
        height=300,
        column_config={name: st.column_config.NumberColumn(format="%.2f") for name in columns},
    )


def _of_this_network(session: Session) -> list[TriedPlan]:
    return [tried for tried in session.trace if tried.state.plan.fingerprint == session.state.plan.fingerprint]


def _is_on_screen(session: Session, tried: TriedPlan) -> bool:
    return (tried.state.plan, tried.state.method) == (session.state.plan, session.state.method)


def _label(tried: TriedPlan, words: Words) -> str:
    plan, method = tried.state.plan, tried.state.method
    rates = sorted(set(plan.rates.values()))
    spread = f"{rates[0]:.0%}" if rates else words("trace.nothing")
    if len(rates) > 1:
        spread = words("trace.rates", low=rates[0], high=rates[-1])
    said = [words.of(get_criterion(plan.criterion)), words.of(COUPLINGS[plan.coupling]).lower(), spread]
    if method != ViewState.method:
        said.append(words.of(get_recovery_method(method)).lower())
    return ", ".join(said)


def _go_back(session: Session) -> None:
    tried = _of_this_network(session)
    index = clicked_index("trace", len(tried))
    if index is not None:
        session.go(tried[index].state)
