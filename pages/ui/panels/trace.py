"""The trace: every plan tried in this session, one click back to each."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from fpgm_core.criteria import get_criterion
from fpgm_core.evaluation import wilson
from fpgm_core.figures import TracePoint, trace_figure
from fpgm_core.recovery import get_recovery_method
from pages.ui.panels.pictures import cached_figure, clicked, first_number
from pages.ui.session.session import Session, TriedPlan, callback
from pages.ui.session.view_state import ViewState


def trace_panel(session: Session) -> None:
    """Accuracy against MACs of the tried plans of the network on screen."""
    tried = _of_this_network(session)
    st.subheader("Tried in this session", anchor=False)
    if not tried:
        st.caption("Each plan appears here once its accuracy is exact.")
        return
    points = [TracePoint(_label(plan), plan.cost.macs, plan.measurement.accuracy) for plan in tried]
    last = tried[-1].measurement
    dense = TracePoint("dense", session.network.dense_cost.macs, wilson(last.num_dense_correct, last.num_images))
    on_screen = next((i for i, plan in enumerate(tried) if _is_on_screen(session, plan)), None)
    chart, table = st.columns([1.75, 1], gap="medium")
    with chart:
        st.plotly_chart(
            cached_figure(("trace", on_screen, dense, *points), lambda: trace_figure(points, dense, current=on_screen)),
            key="trace",
            alt="accuracy against MACs of every tried plan",
            on_select=callback(_go_back),
            selection_mode="points",
            config={"displayModeBar": False},
        )
        st.caption("Click a point to return to its plan. Bars are 95% intervals on the choose half.")
    with table:
        _table(tried, points, dense)


def _table(tried: list[TriedPlan], points: list[TracePoint], dense: TracePoint) -> None:
    top5 = [plan.measurement.top5 and 100 * plan.measurement.top5.value for plan in tried]
    columns = {
        "MACs cut %": [100 * (1 - plan.cost.macs / dense.macs) for plan in tried],
        "accuracy %": [100 * point.accuracy.value for point in points],
        "change, points": [100 * plan.measurement.change.value for plan in tried],
        **({"top-5 %": top5} if any(share is not None for share in top5) else {}),
    }
    st.dataframe(
        pd.DataFrame({"plan": [point.label for point in points], **columns}),
        hide_index=True,
        height=300,
        column_config={name: st.column_config.NumberColumn(format="%.2f") for name in columns},
    )


def _of_this_network(session: Session) -> list[TriedPlan]:
    """The plans that can be compared with the one on screen: of its network, measured on its images."""
    wanted = (session.state.plan.fingerprint, session.state.data)
    return [tried for tried in session.trace if (tried.state.plan.fingerprint, tried.state.data) == wanted]


def _is_on_screen(session: Session, tried: TriedPlan) -> bool:
    return (tried.state.plan, tried.state.method) == (session.state.plan, session.state.method)


def _label(tried: TriedPlan) -> str:
    plan, method = tried.state.plan, tried.state.method
    rates = sorted(set(plan.rates.values()))
    spread = "nothing" if not rates else f"{rates[0]:.0%}" if len(rates) == 1 else f"{rates[0]:.0%} to {rates[-1]:.0%}"
    suffix = "" if method == ViewState.method else f", {get_recovery_method(method).title.lower()}"
    return f"{get_criterion(plan.criterion).title}, {plan.coupling}, {spread}{suffix}"


def _go_back(session: Session) -> None:
    point, tried = clicked("trace"), _of_this_network(session)
    if point is not None and first_number(point) < len(tried):
        session.go(tried[first_number(point)].state)
