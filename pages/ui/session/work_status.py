"""Background work that a page waits for: started where it is not, its progress drawn, stopped and resumed."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import streamlit as st

from fpgm_core.runtime.progress import Work
from pages.ui.session.jobs import Job
from pages.ui.session.session import Session, callback

T = TypeVar("T")


def job_for(session: Session, name: str, work: Callable[[], Work[T]], *, key: Hashable) -> Job[T] | None:
    """The session's work of that name and key, started where it is not; None where it was stopped."""
    if session.jobs.is_stopped(name, key):
        return None
    return session.jobs.get(name, key) or session.jobs.start(name, work, key=key)


def result_of(
    session: Session,
    name: str,
    work: Callable[[], Work[T]],
    *,
    key: Hashable,
    doing: str,
    labels: tuple[str, str] = ("Stop", "Resume"),
) -> T | None:
    """The result of background work; until there is one, its progress or what went wrong is drawn, and None returned.

    `doing` says what is being done; `labels` are those of the buttons that stop the work and resume it.
    """
    job = job_for(session, name, work, key=key)
    stop, resume = labels
    if job is None:
        st.button(
            f"{resume}: {doing}",
            key=f"resume:{name}",
            on_click=callback(lambda session: session.jobs.cancel(name)),  # forgotten, so begun again
        )
    elif job.error:
        st.error(job.error)
    elif not job.done:
        draw_progress(job, doing, label=stop, key=f"stop:{name}", stop=lambda session: session.jobs.stop(name))
    return None if job is None else job.result


def draw_progress(
    job: Job[Any],
    doing: str,
    *,
    label: str,
    key: str,
    stop: Callable[[Session], None],
    wanted: Callable[[], bool] = lambda: True,
) -> None:
    """How far work is, and a button that stops it; where it has ended, or is not `wanted`, the page is drawn anew."""
    bar, button = st.columns([5, 1], vertical_alignment="center")

    @st.fragment(run_every=0.5)
    def watch() -> None:
        if job.done or not wanted():
            st.rerun()
        st.progress(job.share, text=f"{doing[:1].upper()}{doing[1:]}: {job.share:.0%}")

    with bar:
        watch()
    button.button(label, key=key, width="stretch", on_click=callback(stop))
