"""What every page has: its style, the navigation, and the plan that it is about."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from fpgm_core import COUPLINGS
from fpgm_core.criteria import get_criterion
from pages.ui.components.cards import macs_card, params_card
from pages.ui.session.session import Session, current_session, share

STYLE = """
[data-testid="stLayoutWrapper"]:has(> .st-key-topbar) { position: sticky; top: 0; z-index: 90;
  background: light-dark(#ffffff, #16181b); border-bottom: 1px solid rgba(128,128,128,.3);
  padding: .5rem 0 .4rem; }
[data-testid="stMainBlockContainer"] { padding: .4rem 2.6rem 3rem; }
[data-testid="stHeader"] { background: transparent; height: 2rem; min-height: 2rem; pointer-events: none; }
[data-testid="stHeader"] > * { pointer-events: none; }
[data-testid="stHeader"] button { pointer-events: auto; }
.st-key-tools button { padding: .2rem .3rem; }
[data-testid="stStatusWidget"] { display: none; }
[data-testid="stElementContainer"] { transition: none !important; opacity: 1 !important; }
.card { line-height: 1.3; }
.card .label { font-size: .78rem; opacity: .75; white-space: nowrap; }
.card .value { font-size: 1.55rem; font-weight: 650; font-variant-numeric: tabular-nums; white-space: nowrap; }
.card .value small { font-size: .9rem; font-weight: 500; }
.card .under { font-size: .76rem; opacity: .85; font-variant-numeric: tabular-nums; }
.card .state { display: inline-block; font-size: .68rem; padding: 0 .4em; border-radius: .6em; margin-left: .4em;
  border: 1px solid currentColor; }
"""


def navigation() -> None:
    """The pages, one link each."""
    with st.container(key="navigation", horizontal=True, gap="small"):
        st.page_link("app.py", label="Explore")
        st.page_link("pages/4_Learn.py", label="Learn")
        st.page_link("pages/3_Replaceability.py", label="Replaceability")
        st.page_link("pages/5_Sensitivity.py", label="Sensitivity")
        st.page_link("pages/2_Recover.py", label="Recover")
        st.page_link("pages/1_Export.py", label="Export")


def plan_heading(session: Session, title: str) -> None:
    """The top of a page about the plan that Explore shows: navigation, what the plan is, what it costs."""
    session.begin()
    st.html(f"<style>{STYLE}</style>")
    navigation()
    network, plan = session.network, session.state.plan
    cost = network.cost(plan)
    name, macs, params = st.columns([3, 1.4, 1.4], vertical_alignment="center")
    name.subheader(title, anchor=False)
    name.markdown(
        f"**{network.title}** · {get_criterion(plan.criterion).title} · {COUPLINGS[plan.coupling].title}: "
        "the plan on Explore"
    )
    macs.html(macs_card(cost, network.dense_cost))
    params.html(params_card(cost, network.dense_cost))
    if network.notice:
        st.warning(network.notice)


def plan_page(title: str, draw: Callable[[Session], None]) -> None:
    """A page about the plan that Explore shows: the heading with the plan and its cost, and what `draw` draws."""
    st.set_page_config(
        page_title=f"FPGM explorer: {title.lower()}", page_icon="✂️", layout="wide", initial_sidebar_state="collapsed"
    )
    session = current_session()
    share(session.state)
    plan_heading(session, title)
    draw(session)
