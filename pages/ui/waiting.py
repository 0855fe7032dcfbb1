"""Work that a page waits for: begun in the background, its progress drawn, stopped and gone on with."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any, TypeVar

import streamlit as st

from fpgm_core.runtime.progress import Work
from pages.ui.jobs import Job, engine
from pages.ui.sitting import Session, callback

T = TypeVar("T")


def background(
    here: Session, purpose: str, key: Hashable, steps: Callable[[], Iterator[float | T]]
) -> Job[float | T] | None:
    """The session's work of that key for a purpose, one of PURPOSES, begun where it is not; None where it is stopped.

    `steps` returns an iterator of shares done, 0..1, that ends with the result.
    """
    held = here.works.get(purpose)
    if held is None or held[0] != key:
        held = here.works[purpose] = (key, engine().run(here.session + purpose, key, steps))
    return held[1]


def as_steps(work: Callable[[], Work[T]]) -> Callable[[], Iterator[float | T]]:
    """Work as an iterator of shares done that ends with the result; goes when jobs run work themselves."""

    def steps() -> Iterator[float | T]:
        running = work()
        try:
            while True:
                yield next(running).share
        except StopIteration as end:
            yield end.value

    return steps


def result(job: Job[float | T] | None) -> T | None:
    """What the work came to; None before that, and where it failed."""
    return None if job is None or not job.done or job.error or isinstance(job.latest, float) else job.latest


def awaited(
    here: Session,
    purpose: str,
    key: Hashable,
    steps: Callable[[], Iterator[float | T]],
    doing: str,
    labels: tuple[str, str] = ("Stop", "go on"),
) -> T | None:
    """The result of background work; while there is none, its progress or what went wrong is drawn, and None comes.

    `labels` are those of the buttons that stop it, and that go on with it.
    """
    job = background(here, purpose, key, steps)
    found = result(job)
    if found is not None:
        return found
    if job is None:
        st.button(f"{doing}: {labels[1]}", key=f"go_on{purpose}", on_click=callback(lambda now: now.resume(purpose)))
    elif job.error:
        st.error(job.error)
    else:
        progress(job, doing, labels[0], f"stop{purpose}", lambda now: now.halt(purpose))
    return None


def progress(
    job: Job[Any],
    doing: str,
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
        share = job.latest if isinstance(job.latest, float) else 0.0
        st.progress(min(1.0, share), text=f"{doing}: {share:.0%}")

    with bar:
        watch()
    button.button(label, key=key, width="stretch", on_click=callback(stop))
