"""The page Explore: the rates of a network's units, the filters of one layer, and what the plan costs and scores."""

from __future__ import annotations

import streamlit as st

from pages.ui.components.telling import plain
from pages.ui.panels.frame import begin_page, messages, open_page
from pages.ui.panels.goal import goal_row
from pages.ui.panels.layer import layer_panel, take_look
from pages.ui.panels.live_bars import live_bars, take_move
from pages.ui.panels.rate_controls import notices, rate_controls
from pages.ui.panels.trace import trace_panel
from pages.ui.panels.under_way import under_way
from pages.ui.session.links import current_session
from pages.ui.session.networks import why_unmeasured
from pages.ui.session.session import Session


def main() -> None:
    """Draw the page: what is always in sight, the rates, the chosen layer, the trace."""
    open_page("Explore")
    was_open = "session" in st.session_state
    session = current_session()
    if was_open:
        session.begin()
    take_move(session)
    take_look(session)
    session.redraw = False
    session, slots, place = begin_page("Explore")
    goal_row(session)
    with messages(session):
        if (why := why_unmeasured(session.network)) is not None:
            st.warning(plain(session.words("explore.untrained", why=_sentence(session, why))))
        notices(session)
    rate_controls(session)
    live_bars(*slots, below=_picture)
    st.divider()
    trace_panel(session)
    under_way(session, place)


def _sentence(session: Session, text: str) -> str:
    """A message as the beginning of a sentence; a network's name is written as it is."""
    said, network = session.words.phrase(text), session.network
    return said if said.startswith((network.name, network.title)) else f"{said[:1].upper()}{said[1:]}"


def _picture(session: Session) -> bool:
    """The chosen layer under the bars, after what was done to it; whether it waits for something."""
    session.redraw = take_look(session) or session.redraw
    return layer_panel(session)
