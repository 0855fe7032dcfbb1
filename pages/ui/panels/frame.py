"""What every page has: its style, the way through the pages, the plan with its figures, and what is under way."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from fpgm_core.lesson import LANGUAGES, STYLES
from pages.ui.components.telling import plain
from pages.ui.panels.figures import draw_figures
from pages.ui.panels.goal import take_what_was_solved
from pages.ui.panels.open_dialog import open_button
from pages.ui.panels.pickers import pickers
from pages.ui.panels.share_menu import share_menu
from pages.ui.panels.under_way import under_way
from pages.ui.session.language import set_language, tab_language, tab_words
from pages.ui.session.links import current_session, share
from pages.ui.session.opened import notes_of
from pages.ui.session.session import Session
from pages.ui.session.widgets import callback, mirror

STYLE = (Path(__file__).parent / "frame.css").read_text()
PAGES = {
    "pages/4_Learn.py": "Learn",
    "app.py": "Explore",
    "pages/5_Choose.py": "Choose",
    "pages/2_Recover.py": "Recover",
    "pages/1_Export.py": "Export",
}  # in the order of the work; their names are words of every language
Slots = tuple[DeltaGenerator, DeltaGenerator, DeltaGenerator]


def open_page(page: str) -> None:
    """Set the page up: its title in the browser, the whole width, no sidebar."""
    words = tab_words()
    title = words("frame.title", page=words(f"frame.{page.lower()}"))
    st.set_page_config(page_title=title, page_icon="✂️", layout="wide", initial_sidebar_state="collapsed")


def dress(more: str = "") -> None:
    """The style of every page, with its language's, and `more` of one's own; tells the browser the language."""
    language = tab_language()
    st.html(f"<style>{STYLE}{more}{STYLES.get(language, '')}</style>")
    st.html(f"<script>document.documentElement.lang = {language!r}</script>", unsafe_allow_javascript=True)


def navigation(session: Session) -> None:
    """The pages in the order of the work, one link each, and the language of them all."""
    with st.container(key="navigation", horizontal=True, gap="small", vertical_alignment="center"):
        for file, page in PAGES.items():
            st.page_link(file, label=session.words(f"frame.{page.lower()}"))
        st.segmented_control(
            session.words("frame.language"),
            list(LANGUAGES),
            required=True,
            format_func=LANGUAGES.__getitem__,
            label_visibility="collapsed",
            **mirror("language", tab_language(), lambda _, language: set_language(language)),
        )


def top_bar(session: Session) -> Slots:
    """Model, criterion, coupling; accuracy, MACs, parameters; undo, redo, share. Returns the figures' places."""
    with st.container(key="topbar", horizontal=True, vertical_alignment="center", gap="small", wrap=False):
        with st.container(
            key="pickers", horizontal=True, vertical_alignment="bottom", gap="xsmall", width="content", wrap=False
        ):
            open_button()
            pickers(session)
        # Not st.empty(): it takes the figure of before away, which the page draws anew a moment later.
        accuracy, macs, params = (
            st.container(key=f"figure-{name}", width="content") for name in ("accuracy", "macs", "params")
        )
        with st.container(key="tools", horizontal=True, gap="xsmall", width="content", wrap=False):
            _tools(session)
    return accuracy, macs, params


def _tools(session: Session) -> None:
    """Undo, redo, the plan as a file, and the link."""
    for text, name, can, steps in (
        ("↶", "undo", session.history.can_undo, -1),
        ("↷", "redo", session.history.can_redo, 1),
    ):
        act = callback(partial(Session.step, steps=steps))
        st.button(text, key=name, help=session.words(f"frame.{name}"), disabled=not can, on_click=act)
    share_menu(session)


def begin_page(page: str) -> tuple[Session, Slots, DeltaGenerator]:
    """The top of a page, whose predecessor's work ends; returns the places of the figures, and of what is under way."""
    session = current_session()
    session.enter(page)
    take_what_was_solved(session)
    dress()
    navigation(session)
    wait_for_network(session)
    slots = top_bar(session)
    return session, slots, st.container(key="under_way")


def wait_for_network(session: Session) -> None:
    """Where what a link shows is being opened still, say so, and draw no more of the page."""
    if session.is_arriving:
        under_way(session, st.container(key="under_way"))
        st.stop()


def messages(session: Session) -> DeltaGenerator:
    """What must be said of the last act, in a place that is always there: it moves nothing else on the page."""
    place = st.container(key="notices")
    if session.message:
        place.error(plain(session.words.phrase(session.message)))
    if session.jobs.was_lost:
        place.info(session.words("work.lost"))
    for note in notes_of(session.state.data):
        place.warning(plain(session.words.phrase(note)))
    return place


def plan_page(page: str, draw: Callable[[Session], None]) -> None:
    """A page about the plan that Explore shows: its bar, its figures as they come, and what `draw` draws."""
    open_page(page)
    session, slots, place = begin_page(page)
    share(session.state)
    session.begin()
    live_figures(session, slots)
    messages(session)
    draw(session)
    under_way(session, place)


def live_figures(session: Session, slots: Slots) -> None:
    """The figures of the bar, drawn again while they are measured."""
    job = session.measuring
    is_coming = job is not None and not job.done

    @st.fragment(run_every=0.5 if is_coming else None)
    def watch() -> None:
        session = current_session()
        draw_figures(session, *slots)
        if is_coming and (session.measuring is None or session.measuring.done):
            st.rerun()

    watch()
