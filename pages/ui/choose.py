"""The page Choose: one view at a time of what helps to choose rates."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import streamlit as st

from pages.ui.kept import history_view
from pages.ui.sensitivity import sensitivity_page
from pages.ui.session.session import Session

VIEWS: Mapping[str, Callable[[Session], None]] = {
    "sensitivity": sensitivity_page,
    "history": history_view,
}
_PARAMETER, _KEY = "view", "choose_view"


def choose_page(session: Session) -> None:
    """The views in a row, and the chosen one: the link's where it names one."""
    words = session.words
    asked = st.query_params.get(_PARAMETER)
    if asked in VIEWS and st.session_state.get("view_asked") != asked:
        st.session_state[_KEY] = asked
    st.session_state.setdefault(_KEY, next(iter(VIEWS)))
    view = st.segmented_control(
        words("choose.look"),
        list(VIEWS),
        key=_KEY,
        required=True,
        label_visibility="collapsed",
        persist_state="session",
        format_func=lambda name: words(f"choose.view_{name}"),
    )
    chosen = view or next(iter(VIEWS))
    st.query_params[_PARAMETER] = st.session_state.view_asked = chosen
    VIEWS[chosen](session)
