"""Background work that a page waits for: started where it is not, stopped and resumed."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import streamlit as st

from fpgm_core.lesson import Words
from fpgm_core.runtime.progress import Work
from pages.ui.components.telling import plain
from pages.ui.session.jobs import Job
from pages.ui.session.session import Session
from pages.ui.session.widgets import callback

T = TypeVar("T")


def job_for(
    session: Session, name: str, work: Callable[[], Work[T]], *, key: Hashable, doing: str, page: str | None = None
) -> Job[T] | None:
    """The session's work of that name and key, started where it is not; None where it was stopped.

    `doing` and `page` as the title and the page of an `Entry`.
    """
    if session.jobs.is_stopped(name, key):
        return None
    return session.jobs.get(name, key) or session.jobs.start(name, work, key=key, title=doing, page=page)


def waiting(job: Job[Any] | None, words: Words) -> str:
    """That work waits for its turn, and where it stands in the queue."""
    return words("work.place", place=job.place) if job is not None and job.place else words("work.waiting")


def result_of(
    session: Session,
    name: str,
    work: Callable[[], Work[T]],
    *,
    key: Hashable,
    doing: str,
    page: str | None = None,
) -> T | None:
    """The result of background work; until there is one, what is being done or went wrong is said, and None returned.

    How far it is, and the button that stops it, are where all work under way is told of.
    """
    job = job_for(session, name, work, key=key, doing=doing, page=page)
    if job is None:
        st.button(
            session.words("work.resume", what=doing),
            key=f"resume:{name}",
            on_click=callback(lambda session: session.jobs.cancel(name)),  # forgotten, so begun again
        )
    elif job.error:
        st.error(plain(session.words.phrase(job.error)))
    elif not job.done:
        told = doing if job.progress or not job.place else f"{doing}: {waiting(job, session.words)}"
        st.caption(f"{told[:1].upper()}{told[1:]} …")
    return None if job is None else job.result
