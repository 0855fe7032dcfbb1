"""The Replaceability page: whether the filters nearest the others are the cheapest to replace, measured."""

from __future__ import annotations

import streamlit as st

from pages.ui.replaceable import replaceability_panel
from pages.ui.sitting import share, sitting
from pages.ui.top_bar import plan_heading

st.set_page_config(
    page_title="FPGM explorer: replaceability", page_icon="✂️", layout="wide", initial_sidebar_state="collapsed"
)
here = sitting()
share(here.look)
plan_heading(here, "Replaceability")
replaceability_panel(here)
