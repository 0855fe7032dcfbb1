"""The Export page: the plan on screen as files, proved, reloaded and measured before they are offered."""

from __future__ import annotations

import streamlit as st

from pages.ui.export_panel import export_panel
from pages.ui.sitting import share, sitting
from pages.ui.top_bar import STYLE, macs_card, navigation, params_card

st.set_page_config(page_title="FPGM explorer: export", page_icon="✂️", layout="wide", initial_sidebar_state="collapsed")
st.html(f"<style>{STYLE}</style>")
here = sitting()
share(here.look)
navigation()
st.title("Export", anchor=False)
plan, cost = here.look.plan, here.network.cost(here.look.plan)
title, macs, params = st.columns([3, 1.4, 1.4], vertical_alignment="center")
title.markdown(f"**{here.network.loaded.info.title}** · {plan.criterion} · {plan.coupling}")
macs.html(macs_card(cost, here.network.dense_cost))
params.html(params_card(cost, here.network.dense_cost))
export_panel(here)
