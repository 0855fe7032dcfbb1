"""Everything that this session has under way: what, how far, how much longer, and a button to stop it."""

from __future__ import annotations

from functools import partial

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from fpgm_core.lesson import Words
from pages.ui.components.cards import time_left
from pages.ui.components.telling import plain
from pages.ui.session.jobs import Entry
from pages.ui.session.links import current_session
from pages.ui.session.session import Session
from pages.ui.session.widgets import callback
from pages.ui.session.work_status import waiting

_EVERY = 0.5  # seconds


def under_way(session: Session, place: DeltaGenerator) -> None:
    """One line for each piece of long work; the page is drawn anew where one begins or ends.

    Called once the rest of the page is drawn, which may have begun some; `place` was kept for it. A move that waited
    for what has ended meanwhile is made at once: nothing would be left to tell of, or to look again for.
    """
    with place:
        _lines(tuple(session.jobs.under_way))
    if session.pending is not None and session.pending.job.done:  # it ended while the page was drawn
        st.rerun()


def _lines(shown: tuple[str, ...]) -> None:
    @st.fragment(run_every=_EVERY if shown else None)
    def watch() -> None:
        session = current_session()
        now = session.jobs.under_way
        if tuple(now) != shown:
            st.rerun()
        for name, entry in now.items():
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.progress(entry.job.share if entry.job else 0.0, text=_told(entry, session.words))
                st.button(session.words("work.stop"), key=f"stop:{name}", on_click=callback(partial(_end, name=name)))

    watch()


def _end(session: Session, name: str) -> None:
    session.jobs.end(name)


def _told(entry: Entry, words: Words) -> str:
    """What it does, how far it is and how much longer it takes; before its first step, that it waits for its turn."""
    job, title = entry.job, f"{entry.title[:1].upper()}{entry.title[1:]}"
    if job is None or job.progress is None:
        return plain(f"{title}: {waiting(job, words)}")
    step = words.phrase(job.progress.what)
    doing = f" ({step})" if step and step not in entry.title else ""
    return plain(f"{title}{doing}: {job.share:.0%}{time_left(job.progress.seconds_left, words)}")
