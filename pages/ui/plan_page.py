"""A page about the plan that Explore shows."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from pages.ui.sitting import Session, share, sitting
from pages.ui.top_bar import plan_heading


def plan_page(title: str, panel: Callable[[Session], None]) -> None:
    """Draw it: the heading with the plan and its cost, and the page's own panel."""
    st.set_page_config(
        page_title=f"FPGM explorer: {title.lower()}", page_icon="✂️", layout="wide", initial_sidebar_state="collapsed"
    )
    here = sitting()
    share(here.look)
    plan_heading(here, title)
    panel(here)
