"""The tab's session, begun from its link, and links to what is on screen."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from fpgm_core import FpgmError, Network
from fpgm_core.recovery import get_recovery_method, refused_rungs, usual_rung
from pages.ui.components.telling import told
from pages.ui.session.housekeeping import house
from pages.ui.session.language import PARAMETER, link_problem, tab_language
from pages.ui.session.measuring import can_stand_on
from pages.ui.session.networks import check, first_view, network_of, view_of
from pages.ui.session.session import Session
from pages.ui.session.view_state import ViewState, decode, encode


def current_session() -> Session:
    """This tab's session; begun from the link where it carries a view state, else from the first one."""
    if "session" not in st.session_state:
        session = st.session_state.session = Session(first_view())
        house().enter(session.name, session)
        _open_link(session, st.query_params.get("s"))
        session.message = session.message or link_problem()
    current: Session = st.session_state.session
    if current.jobs.is_closed:  # the connection was lost for a while
        was_arriving = current.is_arriving
        current.resume()
        if was_arriving:
            _open_link(current, st.query_params.get("s"))
    return current


def _open_link(session: Session, text: str | None) -> None:
    """Show what a link carries, once its network is open and its scores are made; say what is wrong with it."""
    if not text:
        return
    try:
        state = decode(text)
    except FpgmError as error:
        session.message = told(error)
        return
    session.with_network(state.plan, lambda network: _arrive(session, state, network), is_first=True)


def _arrive(session: Session, state: ViewState, network: Network) -> None:
    """Begin a session with a view state whose network is open. Raises FpgmError for one that cannot be."""
    message = None
    if not can_stand_on(state):
        rung, words = usual_rung(network), session.words
        refusal = refused_rungs(network).get(state.method)
        reason = words.phrase(refusal) if refusal else words("explore.not_trained")
        message = words("explore.other_rung", reason=reason, rung=words.of(get_recovery_method(rung)).lower())
        state = replace(state, method=rung)
    if network_of(state).has_scores(state.plan.criterion):
        check(state)
        session.begin_with(state)
    else:
        session.begin_with(view_of(network, coupling=state.plan.coupling))
        session.go(state)
    session.message = session.message or message


def plan_link(state: ViewState) -> dict[str, str]:
    """The query parameters of an address that opens a view state, in this tab's language."""
    return {PARAMETER: tab_language(), "s": encode(state)}


def share(state: ViewState) -> None:
    """Put the view state into the address, where it can be copied."""
    for name, text in plan_link(state).items():
        if st.query_params.get(name) != text:
            st.query_params[name] = text
