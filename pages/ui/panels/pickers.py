"""What is open: the menus of model, criterion and coupling."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import streamlit as st

from fpgm_core import COUPLINGS, CRITERIA, FpgmError
from fpgm_core.lesson import Words
from fpgm_core.models import cifar_models, list_models
from pages.ui.session.language import words_of
from pages.ui.session.networks import first_view, title_of
from pages.ui.session.opened import live_names
from pages.ui.session.session import Session
from pages.ui.session.widgets import menu


@st.cache_data(show_spinner=False)
def _titles(language: str) -> dict[str, str]:
    own, words = {info.name for info in cifar_models()}, words_of(language)
    return {
        info.name: info.title
        if info.record
        else words("top.no_weights", network=info.title)
        if info.name in own
        else f"{info.name} (ImageNet)"
        for info in list_models()
    }


def glossed(words: Words, records: Iterable[Any]) -> str:
    """What records of a registry are, a line each, for a menu's help."""
    return "  \n".join(f"**{words.of(record)}**: {words.of(record, 'summary')}" for record in records)


def pickers(session: Session) -> None:
    """Model, criterion and coupling, for a row."""
    plan, words = session.state.plan, session.words
    titles = {plan.model: ""} | {name: name for name in live_names()} | _titles(words.language)
    titles[plan.model] = title_of(session.network)
    st.selectbox(
        words("top.model"),
        list(titles),
        format_func=titles.__getitem__,
        width=170,
        **menu("model", plan.model, _open),
    )
    st.selectbox(
        words("top.criterion"),
        list(CRITERIA),
        format_func=lambda name: words.of(CRITERIA[name]),
        width=140,
        help=glossed(words, CRITERIA.values()),
        **menu("criterion", plan.criterion, _set_criterion),
    )
    st.selectbox(
        words("top.coupling"),
        list(COUPLINGS),
        format_func=lambda name: words.of(COUPLINGS[name]),
        width=130,
        help=glossed(words, COUPLINGS.values()),
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
