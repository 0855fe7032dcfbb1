"""Sharing: the link that carries everything on screen, and the plan as a file."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from fpgm_core import FpgmError, Plan
from pages.ui.components.telling import told
from pages.ui.session.session import Session, callback
from pages.ui.session.view_state import encode


def share_menu(session: Session) -> None:
    """A menu: copy the link, save the plan, open one."""
    with st.popover("Share"):
        st.caption("The address of this page carries everything on screen; this is its query:")
        st.code(f"?s={encode(session.state)}", language=None, wrap_lines=True)
        st.download_button(
            "Save the plan (JSON)",
            session.state.plan.to_json(indent=2),
            file_name=f"{session.state.plan.model.replace('/', '-')}-plan.json",
            mime="application/json",
            key="save_plan",
            on_click="ignore",
        )
        st.file_uploader("Open a plan", type="json", key="open_plan", on_change=callback(_open))


def _open(session: Session) -> None:
    """Open an uploaded plan; one that does not fit is refused with the reason, and what was there stays."""
    file = st.session_state.open_plan
    if file is None:
        return
    try:
        plan = Plan.from_json(file.getvalue())
        session.network.check(plan)
        session.go(replace(session.state, plan=plan))
    except FpgmError as error:
        session.message = f"{file.name}: {told(error)}"
