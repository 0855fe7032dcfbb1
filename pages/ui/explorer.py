"""The page Explore: the layers of a network, the rate of each, and what the plan costs and scores."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.ui.layer_panel import layer_panel
from pages.ui.plan_panel import plan_panel
from pages.ui.rates import ladder, live_panel, rate_controls, rate_table, take_move
from pages.ui.sitting import Session, callback, sitting
from pages.ui.top_bar import STYLE, navigation, pickers, scoring
from pages.ui.trace_panel import trace_panel


def main() -> None:
    """Draw the page: what is always in sight, the rates, the chosen layer, the trace."""
    st.set_page_config(page_title="FPGM explorer", page_icon="✂️", layout="wide", initial_sidebar_state="collapsed")
    st.html(f"<style>{STYLE}</style>")
    known = "sitting" in st.session_state
    here = sitting()
    if known:
        here.begin()
    take_move(here)
    here.redraw = False
    here.remember()
    navigation()
    with st.container(key="topbar"):
        slots = top_bar(here)
    scoring(here)
    if here.message:
        st.error(here.message)
    if here.network.notice:
        st.warning(here.network.notice)
    left, right = st.columns([2.6, 1], gap="medium")
    with left:
        live_panel(*slots)
    with right:
        rate_table(here)
    ladder(here)
    rate_controls(here)
    st.divider()
    layer_panel(here)
    st.divider()
    trace_panel(here)


def top_bar(here: Session) -> tuple[DeltaGenerator, DeltaGenerator, DeltaGenerator]:
    """Model, criterion, coupling; accuracy, MACs, parameters; undo, redo, share. Returns the figures' places."""
    pick, accuracy, macs, params, tools = st.columns([3.9, 2.75, 1.5, 1.5, 1.75], vertical_alignment="center")
    with pick:
        pickers(here)
    slots = (accuracy.empty(), macs.empty(), params.empty())
    with tools, st.container(key="tools"):
        tool_bar(here)
    return slots


def tool_bar(here: Session) -> None:
    """Undo, redo, the plan as a file, and the link."""
    undo, redo, menu = st.columns([1, 1, 1.9], gap="xsmall")
    undo.button("↶", key="undo", help="Undo", disabled=not here.history.can_undo, width="stretch",
                on_click=callback(lambda now: now.step(-1)))  # fmt: skip
    redo.button("↷", key="redo", help="Redo", disabled=not here.history.can_redo, width="stretch",
                on_click=callback(lambda now: now.step(1)))  # fmt: skip
    with menu:
        plan_panel(here)
