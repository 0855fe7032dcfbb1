"""Work in the background: what a session has under way, each piece under a name, and the worker that does it.

`session.jobs.start(name, work)` is the one way to begin anything that takes time. A session has at most one job of a
name; starting another replaces it. Equal requests of several sessions, those with the same `key`, share one job.
Everything a session started ends with its tab, whatever its name.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import streamlit as st

from fpgm_core import FpgmError
from fpgm_core.runtime.memory import keep_freed_memory
from fpgm_core.runtime.progress import Progress, Work, timed

log = logging.getLogger(__name__)
T = TypeVar("T")


class Job(Generic[T]):
    """One piece of work in the background. Its fields are written by the worker alone.

    `progress` is the latest, `partial` the latest result so far, `result` what the work came to and `error` why it
    came to nothing, in words. A measurement takes seconds, and the worker remembers it for whoever asks for the same
    again; work that is `long` it forgets once nobody wants it.
    """

    def __init__(self, work: Work[T], *, key: Hashable, long: bool) -> None:
        self.progress: Progress | None = None
        self.partial: Any = None
        self.result: T | None = None
        self.error: str | None = None
        self.key = key
        self.long = long
        self.begun = time.monotonic()
        self._work = work
        self._has_news, self._ended = threading.Event(), threading.Event()

    @property
    def done(self) -> bool:
        """Whether it came to its end, or failed."""
        return self._ended.is_set()

    @property
    def has_news(self) -> bool:
        """Whether it has anything to show: a partial result, some progress, or its end."""
        return self._has_news.is_set()

    @property
    def share(self) -> float:
        """The share that is done, 0..1."""
        return 0.0 if self.progress is None else self.progress.share

    def wait(self, seconds: float) -> None:
        """Wait for news, or where there is some for the end, at most so long."""
        (self._ended if self.has_news else self._has_news).wait(seconds)

    def step(self) -> None:
        """Do one step of the work. Errors end the job and are kept, in words, for the page."""
        try:
            progress = next(self._work)
            if progress.share < self.share:  # what people watch never goes back
                progress = replace(progress, done=self.share, total=1.0)
            self.partial = self.partial if progress.partial is None else progress.partial
            self.progress = progress
        except StopIteration as end:
            self._end(result=end.value)
        except FpgmError as error:
            self._end(error=str(error))
        except Exception as error:  # whatever torch raises must end this job, not the worker
            log.exception("work failed")
            self._end(error=f"The work failed ({type(error).__name__}: {error})")
        if self.done or self.partial is not None or self.share > 0:
            self._has_news.set()

    def _end(self, result: T | None = None, error: str | None = None) -> None:
        self.result, self.error = result, error
        self._ended.set()

    def close(self) -> None:
        """Stop for good; what was reached stays readable."""
        self._work.close()


class Worker:
    """One thread that does the jobs of every session.

    Measurements are served in the order they were asked for, every first figure before the rest of any: in turns all
    would come as late as the last. Long work has every other step, each in turn.
    """

    def __init__(self, remembered: int = 256) -> None:
        self._wake = threading.Condition()
        self._wanted: dict[tuple[str, str], Job[Any]] = {}  # by session and name
        self._known: OrderedDict[Hashable, Job[Any]] = OrderedDict()  # every live or finished job, by key
        self._remembered = remembered
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="fpgm-worker", daemon=True)
        self._thread.start()
        atexit.register(self.close)  # an interpreter that ends while torch computes aborts

    def start(self, session: str, name: str, begin: Callable[[], Work[T]], *, key: Hashable, long: bool) -> Job[T]:
        """The job of that key, joined where there is one, else begun; it replaces the session's job of that name."""
        with self._wake:
            known = self._known.get(key)
        # Begun outside the lock, where nobody waits for it; of two that begin the same at once the first stays.
        begun = Job(begin(), key=key, long=long) if known is None or known.error else known
        with self._wake:
            known = self._known.get(key)
            job = self._known[key] = begun if known is None or known.error else known
            self._known.move_to_end(key)
            self._wanted[session, name] = job
            self._forget()
            self._wake.notify()
            return job

    @property
    def under_way(self) -> int:
        """How many jobs are wanted and not finished."""
        return len({id(job) for job in list(self._wanted.values()) if not job.done})

    def cancel(self, session: str, name: str | None = None) -> None:
        """The session wants its job of that name no longer, or none of its jobs; one stops unless others want it."""
        with self._wake:
            for owner in [owner for owner in self._wanted if owner[0] == session and name in (None, owner[1])]:
                del self._wanted[owner]
            self._forget()

    def close(self) -> None:
        """End the thread after the step it is at."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join(10)

    def _forget(self) -> None:
        """Drop unwanted jobs that are not finished, and the oldest finished ones beyond the limit."""
        wanted = set(map(id, self._wanted.values()))
        for key, job in list(self._known.items()):
            surplus = len(self._known) > self._remembered
            if id(job) not in wanted and (not job.done or surplus or job.long):
                del self._known[key]

    def _next(self, turn: int) -> Job[Any] | None:
        """The job whose turn it is. Waits where there is none; None at the end."""
        with self._wake:
            while not self._closed:
                active = list({id(job): job for job in self._wanted.values() if not job.done}.values())
                if active:
                    brief, long = ([job for job in active if job.long is kind] for kind in (False, True))
                    if brief and not (long and turn % 2):
                        return min(brief, key=lambda job: (job.has_news, job.begun))
                    return long[turn // 2 % len(long)]
                self._wake.wait()
            return None

    def _run(self) -> None:
        _yield_to_the_page()
        turn = 0
        while (job := self._next(turn)) is not None:
            job.step()
            if job.done:
                job.close()
            turn += 1


def _yield_to_the_page() -> None:
    """Let pages run before this thread, and the threads it starts: a hand on a bar must not wait for arithmetic.

    By the least step: by five the exact figure beside a browser on the same two cores came a quarter later, and the
    drags of thirty browsers no sooner.
    """
    if hasattr(os, "setpriority"):  # on Linux a thread's own niceness, inherited by torch's pool
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 1)


@st.cache_resource(show_spinner=False)
def device_worker() -> Worker:
    """The process's one worker for measurements and long work, shared by every session."""
    keep_freed_memory()
    return Worker()


@st.cache_resource(show_spinner=False)
def layout_worker() -> Worker:
    """Another for UMAP, whose one step takes half a minute; numba's compiled UMAP takes one layer at a time."""
    return Worker()


@st.cache_resource(show_spinner=False)
def opening_worker() -> Worker:
    """A third for opening what people bring, whose one step, a download or a large network, may take minutes."""
    return Worker()


def workers() -> tuple[Worker, ...]:
    """All that work for sessions."""
    return device_worker(), layout_worker(), opening_worker()


@dataclass(frozen=True)
class Entry:
    """A piece of a session's work: its key, its job (None where it was stopped), and how people are told of it.

    `title` says what it does; work without one is told of elsewhere. `end` ends it in a way of its own, keeping what it
    has, say; `page` is the page that it ends with, None where it goes on when that is left.
    """

    key: Hashable
    job: Job[Any] | None
    title: str = ""
    end: Callable[[], object] | None = None
    page: str | None = None


class Jobs:
    """The background work of one session, by name."""

    def __init__(self, session: str) -> None:
        self._session = session
        self._jobs: dict[str, Entry] = {}
        self._closed = False
        self._end_all()  # what an earlier visit under the same name left

    @property
    def is_closed(self) -> bool:
        """Whether the tab was closed, after which nothing begins."""
        return self._closed

    def start(
        self,
        name: str,
        work: Callable[[], Work[T]],
        *,
        key: Hashable,
        long: bool = True,
        worker: Worker | None = None,
        title: str = "",
        end: Callable[[], object] | None = None,
        page: str | None = None,
    ) -> Job[T]:
        """Begin the work that `work` returns, or join another session's of the same key; the others as in `Entry`.

        Raises whatever `work` itself raises; what its steps raise is the job's `error`.
        """
        if self._closed:
            raise FpgmError("this page was closed; open it again")
        begin = (lambda: timed(work())) if long else work
        job = (worker or device_worker()).start(self._session, name, begin, key=key, long=long)
        self._jobs[name] = Entry(key, job, title, end, page)
        return job

    @property
    def under_way(self) -> dict[str, Entry]:
        """What people are told of and has not ended, by name."""
        told = {name: entry for name, entry in self._jobs.items() if entry.title and entry.job is not None}
        return {name: entry for name, entry in told.items() if entry.job is not None and not entry.job.done}

    def enter(self, page: str) -> None:
        """End what belongs to another page than the one that is on screen now."""
        for name in [name for name, entry in self._jobs.items() if entry.page not in (None, page)]:
            self.cancel(name)

    def end(self, name: str) -> None:
        """End the work of that name as a person asks for: in its own way where it has one, else stop it."""
        entry = self._jobs.get(name)
        if entry is not None and entry.end is not None:
            entry.end()
        else:
            self.stop(name)

    def get(self, name: str, key: Hashable = None) -> Job[Any] | None:
        """This session's job of that name, of that key where one is given; None where there is none or it stopped."""
        entry = self._jobs.get(name)
        return entry.job if entry is not None and (key is None or key == entry.key) else None

    def is_stopped(self, name: str, key: Hashable) -> bool:
        """Whether the work of that name and key was stopped, and not begun again since."""
        entry = self._jobs.get(name)
        return entry is not None and entry.key == key and entry.job is None

    def stop(self, name: str) -> None:
        """End the work of that name; that it was stopped is remembered, so that no page begins it again unasked."""
        entry = self._jobs.get(name)
        self.cancel(name)
        if entry is not None:
            self._jobs[name] = replace(entry, job=None)

    def cancel(self, name: str) -> None:
        """End the work of that name and forget it."""
        for worker in workers():
            worker.cancel(self._session, name)
        self._jobs.pop(name, None)

    def close(self) -> None:
        """End everything, for good: the tab was closed."""
        self._closed = True
        self._end_all()

    def _end_all(self) -> None:
        for worker in workers():
            worker.cancel(self._session)
        self._jobs.clear()
