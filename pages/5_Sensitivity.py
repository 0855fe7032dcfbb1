"""The Sensitivity page: what every unit alone loses, rate by rate, and bars set from it."""

from __future__ import annotations

import streamlit as st

from pages.ui.sensitive import sensitivity_panel
from pages.ui.sitting import share, sitting
from pages.ui.top_bar import plan_heading

st.set_page_config(
    page_title="FPGM explorer: sensitivity", page_icon="✂️", layout="wide", initial_sidebar_state="collapsed"
)
here = sitting()
share(here.look)
plan_heading(here, "Sensitivity")
sensitivity_panel(here)
