"""The page Explore: the layers of a network, the rate of each, and what the plan costs and scores."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.ui.panels.frame import STYLE, navigation
from pages.ui.panels.layer import layer_panel
from pages.ui.panels.live_bars import live_bars, take_move
from pages.ui.panels.open_dialog import open_button
from pages.ui.panels.pickers import pickers, scoring
from pages.ui.panels.rate_controls import rate_controls, rate_table, recovery_choice
from pages.ui.panels.share_menu import share_menu
from pages.ui.panels.trace import trace_panel
from pages.ui.session.session import Session, callback, current_session


def main() -> None:
    """Draw the page: what is always in sight, the rates, the chosen layer, the trace."""
    st.set_page_config(page_title="FPGM explorer", page_icon="✂️", layout="wide", initial_sidebar_state="collapsed")
    st.html(f"<style>{STYLE}</style>")
    was_open = "session" in st.session_state
    session = current_session()
    if was_open:
        session.begin()
    take_move(session)
    session.redraw = False
    session.record()
    navigation()
    with st.container(key="topbar"):
        slots = top_bar(session)
    scoring(session)
    if session.message:
        st.error(session.message)
    for note in (session.network.notice, *(session.notes if session.state.data else ())):
        if note:
            st.warning(note)
    left, right = st.columns([2.6, 1], gap="medium")
    with left:
        live_bars(*slots)
    with right:
        rate_table(session)
    recovery_choice(session)
    rate_controls(session)
    st.divider()
    layer_panel(session)
    st.divider()
    trace_panel(session)


def top_bar(session: Session) -> tuple[DeltaGenerator, DeltaGenerator, DeltaGenerator]:
    """Model, criterion, coupling; accuracy, MACs, parameters; undo, redo, share. Returns the figures' places."""
    pick, accuracy, macs, params, tools = st.columns([3.9, 2.75, 1.5, 1.5, 1.75], vertical_alignment="center")
    with pick:
        pickers(session)
    slots = (accuracy.empty(), macs.empty(), params.empty())
    with tools, st.container(key="tools"):
        tool_bar(session)
    return slots


def tool_bar(session: Session) -> None:
    """Undo, redo, the plan as a file, and the link."""
    open_it, undo, redo, menu = st.columns([1.6, 1, 1, 1.9], gap="xsmall")
    with open_it:
        open_button()
    undo.button("↶", key="undo", help="Undo", disabled=not session.history.can_undo, width="stretch",
                on_click=callback(lambda session: session.step(-1)))  # fmt: skip
    redo.button("↷", key="redo", help="Redo", disabled=not session.history.can_redo, width="stretch",
                on_click=callback(lambda session: session.step(1)))  # fmt: skip
    with menu:
        share_menu(session)
