"""Widgets that act on the tab's session and show what is true of it, whoever changed it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from pages.ui.session.language import tab_language
from pages.ui.session.links import current_session
from pages.ui.session.session import Session


def callback(act: Callable[[Session], None]) -> Callable[[], None]:
    """A widget callback that acts on this session."""
    return lambda: act(current_session())


def mirror(name: str, value: object, act: Callable[[Session, Any], None], scope: str = "") -> dict[str, Any]:
    """`key` and `on_change` of a widget that shows `value`, which other controls may change as well.

    The key carries the value, so a change from elsewhere makes a new widget. Under one key the browser's
    next message would still carry the old value, and count as the person's change back to it. It carries the page as
    well: to Streamlit a widget of another page is another one, which would begin with its first option. So is one whose
    options are called something else, as in another language.
    """
    session = current_session()
    key = f"{name}:{scope}:{value}:{session.refusals}:{session.page}:{tab_language()}"
    st.session_state[key] = value

    def changed() -> None:
        chosen = st.session_state[key]
        # A new widget's first message counts as a change, and is none; nor is one that has nothing chosen.
        if chosen is not None and chosen != value:
            act(current_session(), chosen)

    return {"key": key, "on_change": changed}


def menu(name: str, value: object, act: Callable[[Session, Any], None], scope: str = "") -> dict[str, Any]:
    """`mirror` for a selectbox, to which nothing chosen would else be its first option."""
    return {**mirror(name, value, act, scope), "index": None, "required": True}
