"""Sharing: the link that carries everything on screen, and the plan as a file."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlencode

import streamlit as st

from fpgm_core import FpgmError, Plan
from pages.ui.components.telling import told
from pages.ui.session.links import plan_link
from pages.ui.session.session import Session
from pages.ui.session.widgets import callback


def share_menu(session: Session) -> None:
    """A menu: copy the link, save the plan, open one."""
    words = session.words
    with st.popover(words("share.menu"), key="share"):
        st.caption(words("share.address"))
        st.code(f"?{urlencode(plan_link(session.state))}", language=None, wrap_lines=True)
        st.download_button(
            words("share.save"),
            session.state.plan.to_json(indent=2),
            file_name=f"{session.state.plan.model.replace('/', '-')}-plan.json",
            mime="application/json",
            key="save_plan",
            on_click="ignore",
        )
        st.file_uploader(words("share.open"), type="json", key="open_plan", on_change=callback(_open))


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
