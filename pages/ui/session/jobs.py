"""Work in the background: what a session has under way, each piece under a name, and the workers that do it.

`session.jobs.start(name, work)` is the one way to begin anything that takes time. A session has at most one job of a
name; starting another replaces it. Equal requests of several sessions, those with the same `key`, share one job.
Everything a session started ends with its tab, whatever its name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from fpgm_core import FpgmError
from fpgm_core.criteria.umap_reduction import UmapProcess
from fpgm_core.runtime.memo import once
from fpgm_core.runtime.memory import keep_freed_memory
from fpgm_core.runtime.progress import Work, timed
from pages.ui.session.worker import Job, Limits, Worker

T = TypeVar("T")
log = logging.getLogger(__name__)


@once
def device_worker() -> Worker:
    """The process's one worker for measurements and long work, shared by every session."""
    keep_freed_memory()
    return Worker()


@once
def layout_worker() -> Worker:
    """Another for UMAP, which takes one layer at a time, in a process of its own.

    Its first step there takes a quarter of a minute: numba compiles, which is not to be broken off.
    """
    return Worker(limits=Limits(session=1, server=1), patience=None)


@once
def umap_process() -> UmapProcess:
    """What the layout worker asks for UMAP: compiling, which takes a quarter of a minute, holds nobody up there."""
    return UmapProcess()


@once
def opening_worker() -> Worker:
    """A third for opening what people bring, whose one step, a download or a large network, may take minutes."""
    return Worker(limits=Limits(session=1, server=1))


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
        if long:
            log.info("session %s begins %s", self._session[:8], name)
        return job

    @property
    def under_way(self) -> dict[str, Entry]:
        """What people are told of and has not ended, by name."""
        told = {name: entry for name, entry in self._jobs.items() if entry.title and entry.job is not None}
        return {name: entry for name, entry in told.items() if entry.job is not None and not entry.job.done}

    @property
    def was_lost(self) -> bool:
        """Whether the thread of some work was lost in the middle, and the work begun again."""
        return any(entry.job is not None and entry.job.begun_again for entry in self._jobs.values())

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
        if entry is None or (key is not None and key != entry.key):
            return None
        return None if entry.job is not None and entry.job.is_forgotten else entry.job

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
