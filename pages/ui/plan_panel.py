"""Sharing: the link that carries everything on screen, and the plan as a file."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from fpgm_core import FpgmError, Plan
from pages.ui.sitting import Session, callback
from pages.ui.state import encode


def plan_panel(here: Session) -> None:
    """A menu: copy the link, save the plan, open one."""
    with st.popover("Share", width="stretch"):
        st.caption("The address of this page carries everything on screen. This is its part after the `?`:")
        st.code(f"?s={encode(here.look)}", language=None, wrap_lines=True)
        st.download_button(
            "Save the plan (JSON)",
            here.look.plan.to_json(indent=2),
            file_name=f"{here.look.plan.model}-plan.json",
            mime="application/json",
            key="save_plan",
            on_click="ignore",
        )
        st.file_uploader("Open a plan", type="json", key="open_plan", on_change=callback(_open))


def _open(here: Session) -> None:
    """Open an uploaded plan; one that does not fit is refused with the reason, and what was there stays."""
    file = st.session_state.open_plan
    if file is None:
        return
    try:
        plan = Plan.from_json(file.getvalue())
        here.network.check(plan)
        here.go(replace(here.look, plan=plan))
    except FpgmError as error:
        here.message = f"{file.name}: {error}"
