"""The Recover page: the plan on screen, trained; before and after beside each other."""

from __future__ import annotations

import streamlit as st

from pages.ui.recover_panel import recover_panel
from pages.ui.sitting import share, sitting
from pages.ui.top_bar import plan_heading

st.set_page_config(page_title="FPGM explorer: recover", page_icon="✂️", layout="wide", initial_sidebar_state="collapsed")
here = sitting()
share(here.look)
plan_heading(here, "Recover")
recover_panel(here)
