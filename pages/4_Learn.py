"""The Learn page: the lesson, norm against redundancy, on the network at hand."""

from __future__ import annotations

import streamlit as st

from pages.ui.course import course
from pages.ui.learn_panel import learn_panel
from pages.ui.sitting import sitting

st.set_page_config(page_title="FPGM explorer: learn", page_icon="✂️", layout="wide", initial_sidebar_state="collapsed")
here = sitting()
learn_panel(here, course(here))
