"""What is open: the menus of model, criterion and coupling."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from fpgm_core import COUPLINGS, CRITERIA, FpgmError
from fpgm_core.models import cifar_models, list_models
from pages.ui.session.networks import first_view
from pages.ui.session.opened import live_names
from pages.ui.session.session import Session, menu


@st.cache_data(show_spinner=False)
def _titles() -> dict[str, str]:
    own = {info.name for info in cifar_models()}
    return {
        info.name: f"{info.title}{'' if info.record else ' (no weights)'}"
        if info.name in own
        else f"{info.name} (ImageNet)"
        for info in list_models()
    }


def pickers(session: Session) -> None:
    """Model, criterion and coupling, for a row."""
    plan = session.state.plan
    titles = {plan.model: session.network.title} | {name: name for name in live_names()} | _titles()
    st.selectbox(
        "Model",
        list(titles),
        format_func=titles.__getitem__,
        width=170,
        **menu("model", plan.model, _open),
    )
    st.selectbox(
        "Criterion",
        list(CRITERIA),
        format_func=lambda name: CRITERIA[name].title,
        width=140,
        help="  \n".join(f"**{record.title}**: {record.summary}" for record in CRITERIA.values()),
        **menu("criterion", plan.criterion, _set_criterion),
    )
    st.selectbox(
        "Coupling",
        list(COUPLINGS),
        format_func=lambda name: COUPLINGS[name].title,
        width=130,
        help="  \n".join(f"**{record.title}**: {record.summary}" for record in COUPLINGS.values()),
        **menu("coupling", plan.coupling, _set_coupling),
    )


def _open(session: Session, model: str) -> None:
    plan = session.state.plan
    try:
        session.go(first_view(model, plan.criterion, plan.coupling))
    except FpgmError as error:
        session.refuse(error)


def _set_criterion(session: Session, criterion: str) -> None:
    session.change(plan=replace(session.state.plan, criterion=criterion))


def _set_coupling(session: Session, coupling: str) -> None:
    """Keep the rates and locks of units that both couplings have, and drop the others."""
    plan = session.state.plan
    units = {unit.name for unit in session.network.units(coupling)}
    changed = replace(
        plan,
        coupling=coupling,
        rates={unit: rate for unit, rate in plan.rates.items() if unit in units},
        locked_in={unit: indices for unit, indices in plan.locked_in.items() if unit in units},
        locked_out={unit: indices for unit, indices in plan.locked_out.items() if unit in units},
    )
    session.change(plan=changed)
