"""The Export page: the plan on screen as files, proved, reloaded and measured before they are offered."""

from __future__ import annotations

import streamlit as st

from pages.ui.export_panel import export_panel
from pages.ui.sitting import share, sitting
from pages.ui.top_bar import plan_heading

st.set_page_config(page_title="FPGM explorer: export", page_icon="✂️", layout="wide", initial_sidebar_state="collapsed")
here = sitting()
share(here.look)
plan_heading(here, "Export")
export_panel(here)
