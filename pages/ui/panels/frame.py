"""What every page has: its style, the navigation, and the plan that it is about."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from fpgm_core import COUPLINGS
from fpgm_core.criteria import get_criterion
from pages.ui.components.cards import macs_card, params_card
from pages.ui.panels.pickers import pickers
from pages.ui.panels.share_menu import share_menu
from pages.ui.session.session import Session, callback, current_session, share

PAGES = {
    "pages/4_Learn.py": "Learn",
    "app.py": "Explore",
    "pages/5_Sensitivity.py": "Choose",
    "pages/2_Recover.py": "Recover",
    "pages/1_Export.py": "Export",
}

_FILES = Path(__file__).parent
STYLE = (_FILES / "frame.css").read_text()


def navigation() -> None:
    """The pages in the order of the work, one link each."""
    with st.container(key="navigation", horizontal=True, gap="small", vertical_alignment="center"):
        for page, label in PAGES.items():
            st.page_link(page, label=label)


def top_bar(session: Session) -> tuple[DeltaGenerator, DeltaGenerator, DeltaGenerator]:
    """Model, criterion, coupling; accuracy, MACs, parameters; undo, redo, share. Returns the figures' places."""
    with st.container(key="topbar", horizontal=True, vertical_alignment="center", gap="small", wrap=False):
        with st.container(key="pickers", horizontal=True, gap="xsmall", width="content", wrap=False):
            pickers(session)
        slots = []
        for name in ("accuracy", "macs", "params"):
            with st.container(key=f"figure-{name}", width="content"):
                slots.append(st.empty())
        with st.container(key="tools", horizontal=True, gap="xsmall", width="content", wrap=False):
            _tools(session)
    accuracy, macs, params = slots
    return accuracy, macs, params


def _tools(session: Session) -> None:
    """Undo, redo, the plan as a file, and the link."""
    for text, name, can, steps in (
        ("↶", "Undo", session.history.can_undo, -1),
        ("↷", "Redo", session.history.can_redo, 1),
    ):
        act = callback(partial(Session.step, steps=steps))
        st.button(text, key=name.lower(), help=name, disabled=not can, on_click=act)
    share_menu(session)


def plan_heading(session: Session, title: str) -> None:
    """The top of a page about the plan that Explore shows: navigation, what the plan is, what it costs."""
    session.begin()
    st.html(f"<style>{STYLE}</style>")
    navigation()
    network, plan = session.network, session.state.plan
    cost = network.cost(plan)
    name, macs, params = st.columns([3, 1.4, 1.4], vertical_alignment="center")
    name.subheader(title, anchor=False)
    name.markdown(
        f"**{network.title}** · {get_criterion(plan.criterion).title} · {COUPLINGS[plan.coupling].title}: "
        "the plan on Explore"
    )
    macs.html(macs_card(cost, network.dense_cost))
    params.html(params_card(cost, network.dense_cost))
    if network.notice:
        st.warning(network.notice)


def plan_page(title: str, draw: Callable[[Session], None]) -> None:
    """A page about the plan that Explore shows: the heading with the plan and its cost, and what `draw` draws."""
    st.set_page_config(
        page_title=f"FPGM explorer: {title.lower()}", page_icon="✂️", layout="wide", initial_sidebar_state="collapsed"
    )
    session = current_session()
    share(session.state)
    plan_heading(session, title)
    draw(session)
