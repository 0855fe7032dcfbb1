"""The page Choose: one view at a time of what helps to choose rates."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import streamlit as st

from pages.ui.compare import compare_view
from pages.ui.criteria import criteria_view
from pages.ui.front import front_chart, front_view, take_ride
from pages.ui.history import history_view
from pages.ui.panels.frame import begin_page, live_figures, messages, open_page
from pages.ui.panels.live_bars import live_bars, take_move
from pages.ui.panels.under_way import under_way
from pages.ui.sensitivity import sensitivity_page
from pages.ui.session.comparing import VIEW
from pages.ui.session.links import current_session, share
from pages.ui.session.session import Session

VIEWS: Mapping[str, Callable[[Session], None]] = {
    "front": front_view,
    "sensitivity": sensitivity_page,
    "criteria": criteria_view,
    "compare": compare_view,
    "history": history_view,
}
_WITH_BARS = ("front",)
_PARAMETER = "view"


def choose_page() -> None:
    """The plan and its figures, the views in a row, and the chosen one: the link's where it names one."""
    open_page("Choose")
    session = current_session()
    take_move(session)
    take_ride(session)
    session.redraw = False
    session, slots, place = begin_page("Choose")
    share(session.state)
    session.begin()
    view = _view(session)
    if view in _WITH_BARS:
        live_bars(*slots, below=front_chart)
    else:
        live_figures(session, slots)
    messages(session)
    VIEWS[view](session)
    under_way(session, place)


def _view(session: Session) -> str:
    """The view that is chosen; a link that is followed chooses one."""
    words, asked = session.words, st.query_params.get(_PARAMETER)
    if asked in VIEWS and st.session_state.get("view_asked") != asked:
        st.session_state[VIEW] = asked
    st.session_state.setdefault(VIEW, next(iter(VIEWS)))
    chosen = st.segmented_control(
        words("choose.look"), list(VIEWS), key=VIEW, required=True, label_visibility="collapsed",
        format_func=lambda name: words(f"choose.view_{name}"), persist_state="session",
    )  # fmt: skip
    view = chosen or next(iter(VIEWS))
    st.query_params[_PARAMETER] = st.session_state.view_asked = view
    return view
