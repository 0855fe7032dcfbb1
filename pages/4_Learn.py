"""The Learn page: the lesson, norm against redundancy, on the network at hand."""

from __future__ import annotations

import streamlit as st

from pages.ui.session.lesson_state import course
from pages.ui.learn import learn_panel
from pages.ui.session.session import sitting

st.set_page_config(page_title="FPGM explorer: learn", page_icon="✂️", layout="wide", initial_sidebar_state="collapsed")
session = current_session()
learn_panel(session, course(session))
