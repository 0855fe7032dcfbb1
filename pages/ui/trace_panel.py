"""The trace: every plan tried in this sitting, one click back to each."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from fpgm_core.criteria import get_criterion
from fpgm_core.evaluation import wilson
from fpgm_core.figures import TracePoint, trace_figure
from fpgm_core.recovery import RECOVERY_METHODS
from pages.ui.pictures import drawn, first_number
from pages.ui.sitting import Session, Tried, callback


def trace_panel(here: Session) -> None:
    """Accuracy against MACs of the open network's tried plans."""
    tried = _of_this_network(here)
    st.subheader("Tried in this sitting", anchor=False)
    if not tried:
        st.caption("Each plan appears here once its accuracy is exact.")
        return
    points = [TracePoint(_label(one), one.cost.macs, one.figure.accuracy) for one in tried]
    figure = tried[-1].figure
    dense = TracePoint("dense", here.network.dense_cost.macs, wilson(figure.dense_correct, figure.images))
    now = next((i for i, one in enumerate(tried) if _shown(here, one)), None)
    chart, table = st.columns([1.75, 1], gap="medium")
    with chart:
        st.plotly_chart(
            drawn(("trace", now, dense, *points), lambda: trace_figure(points, dense, current=now)),
            key="trace",
            alt="accuracy against MACs of every tried plan",
            on_select=callback(_go_back),
            selection_mode="points",
            config={"displayModeBar": False},
        )
        st.caption("Click a point to go back to its plan. Bars are 95% intervals on the choose half.")
    with table:
        st.dataframe(
            pd.DataFrame(
                {
                    "plan": [point.label for point in points],
                    "MACs cut %": [100 * (1 - one.cost.macs / dense.macs) for one in tried],
                    "accuracy %": [100 * point.accuracy.value for point in points],
                    "change, points": [100 * one.figure.change.value for one in tried],
                }
            ),
            hide_index=True,
            height=300,
            column_config={
                name: st.column_config.NumberColumn(format="%.2f")
                for name in ("MACs cut %", "accuracy %", "change, points")
            },
        )


def _of_this_network(here: Session) -> list[Tried]:
    return [one for one in here.trace if one.look.plan.fingerprint == here.look.plan.fingerprint]


def _shown(here: Session, one: Tried) -> bool:
    return (one.look.plan, one.look.rung) == (here.look.plan, here.look.rung)


def _label(one: Tried) -> str:
    plan = one.look.plan
    rates = sorted(set(plan.rates.values()))
    spread = "nothing" if not rates else f"{rates[0]:.0%}" if len(rates) == 1 else f"{rates[0]:.0%} to {rates[-1]:.0%}"
    rung = "" if one.look.rung == "recalibrated" else f", {RECOVERY_METHODS[one.look.rung].title.lower()}"
    return f"{get_criterion(plan.criterion).title}, {plan.coupling}, {spread}{rung}"


def _go_back(here: Session) -> None:
    points = st.session_state.trace.selection.points
    data = points[0].get("customdata") if points else None
    if data is not None:
        index = first_number(data)
        tried = _of_this_network(here)
        if index < len(tried):
            here.go(tried[index].look)
