"""The worker that does jobs in the background, one thread for every session; and in what order."""

from __future__ import annotations

import atexit
import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from fpgm_core import FpgmError
from fpgm_core.runtime.limits import Breakable, configured_count
from fpgm_core.runtime.progress import Progress, Work
from pages.ui.components.telling import told

T = TypeVar("T")
_LATELY, _AHEAD = 20.0, 1.0  # seconds: how far back a share of the time counts; by how much first figures may exceed it
_AGAIN = 3.0  # seconds after which work that was refused may be asked for again
_OLDEST = 3  # every so many measurements the one that was asked for first is finished next
_LATER = 2.5  # seconds: a measurement's rest takes as long, so one that waits for another's has no news before
_TOO_MUCH = "too much work waits on this server already; try again in a minute"


class Abandoned(BaseException):
    """Raised in a step that goes on although nobody wants its job: no library's `except Exception` takes it."""


class Job(Generic[T]):
    """One piece of work in the background. Its fields are written by the worker alone.

    `progress` is the latest, `partial` the latest result so far, `result` what the work came to and `error` why it
    came to nothing, in words; `begun_again` says that its thread was lost in the middle, and that it began anew. While
    it waits for its turn, `place` is its place in the queue, 1 for the next; else 0. A measurement takes seconds, and
    the worker remembers it for whoever asks for the same again; work that is `long` it forgets once nobody wants it.
    """

    def __init__(self, begin: Callable[[], Work[T]], *, key: Hashable, long: bool) -> None:
        self.progress: Progress | None = None
        self.partial: Any = None
        self.result: T | None = None
        self.error: str | None = None
        self.place = 0
        self.key = key
        self.long = long
        self.begun = time.monotonic()
        self.begun_again = False
        self._begin, self._is_refused = begin, False
        self._work = begin()
        self._has_news, self._ended = threading.Event(), threading.Event()

    @classmethod
    def refused(cls, error: FpgmError, key: Hashable) -> Job[T]:
        """A job that never begins, for the reason that `error` gives."""
        job = cls(_nothing, key=key, long=True)
        job._end(error=told(error))
        job._is_refused = True
        return job

    @property
    def is_forgotten(self) -> bool:
        """Whether it was refused, and is to be asked for again: a while later there may be room."""
        return self._is_refused and time.monotonic() - self.begun > _AGAIN

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
        """Do one step of the work. Errors end the job and are kept, in words, for the page.

        What would end the thread (a library that exits, say) has the work begun again, once.
        """
        try:
            progress = next(self._work)
            if progress.share < self.share:  # what people watch never goes back
                progress = replace(progress, done=self.share, total=1.0)
            self.partial = self.partial if progress.partial is None else progress.partial
            self.progress = progress
        except StopIteration as end:
            self._end(result=end.value)
        except Abandoned:
            raise
        except Exception as error:  # whatever torch raises must end this job, not the worker
            self._end(error=told(error))
        except BaseException as error:
            said = told(error)
            if self.begun_again:
                self._end(error=said)
            else:
                self.begun_again, self._work = True, self._begin()
        if self.done or self.partial is not None or self.share > 0:
            self._has_news.set()

    def _end(self, result: T | None = None, error: str | None = None) -> None:
        self.result, self.error = result, error
        self._ended.set()

    def close(self) -> None:
        """Stop for good, and let go of what the work was about; what was reached stays readable."""
        self._work.close()
        self._begin, self._work = _nothing, _nothing()


def _nothing() -> Work[Any]:
    yield from ()


@dataclass(frozen=True)
class Limits:
    """How much long work a worker has under way at once: of one session, in all; and how much may wait for its turn."""

    session: int = 2
    server: int = 4
    waiting: int = 64

    @classmethod
    def configured(cls) -> Limits:
        """Those that whoever started the server set: `FPGM_SESSION_WORKS`, `FPGM_WORKS`, `FPGM_WAITING_WORKS`.

        Raises FpgmError where one is no number.
        """
        return cls(
            configured_count("FPGM_SESSION_WORKS", cls.session),
            configured_count("FPGM_WORKS", cls.server),
            configured_count("FPGM_WAITING_WORKS", cls.waiting),
        )


class Worker:
    """One thread that does the jobs of every session.

    A measurement's first figure comes before the rest of any, in the order they were asked for: in turns all would come
    as late as the last. But the rest, up to the exact figures, has a third of the time at least: one measurement after
    another, those that most sessions ask for first, then the newest, whose asker still looks; now and then the oldest,
    so that none waits for ever. Long work has every other step, each in turn, within `limits`; what is beyond them
    waits in a queue. A step that nobody wants is broken off after `patience` seconds; None lets it come to its end.
    """

    def __init__(self, remembered: int = 256, limits: Limits | None = None, patience: float | None = 4.0) -> None:
        self._wake = threading.Condition()
        self._wanted: dict[tuple[str, str], Job[Any]] = {}  # by session and name
        self._known: OrderedDict[Hashable, Job[Any]] = OrderedDict()  # every live or finished job, by key
        self._remembered, self._limits, self._patience = remembered, limits, patience
        self._running: list[Job[Any]] = []  # the long work that has its turn
        self._turns = Turns()
        self._at: Job[Any] | None = None  # the job whose step is being done
        self._step = Breakable(Abandoned)
        self._closed = False
        self._thread = self._started()
        atexit.register(self.close)  # an interpreter that ends while torch computes aborts

    def _started(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, name="fpgm-worker", daemon=True)
        thread.start()
        return thread

    def start(self, session: str, name: str, begin: Callable[[], Work[T]], *, key: Hashable, long: bool) -> Job[T]:
        """The job of that key, joined where there is one, else begun; it replaces the session's job of that name.

        Where too much waits already, the job has ended with an error that says so.
        """
        with self._wake:
            known = self._known.get(key)
        # Begun outside the lock, where nobody waits for it; of two that begin the same at once the first stays.
        begun = Job(begin, key=key, long=long) if known is None or known.error else known
        with self._wake:
            known = self._known.get(key)
            if known is None or known.error:
                self._wanted.pop((session, name), None)  # which this one replaces
                if long and len(self._long()) >= self.limits.server + self.limits.waiting:
                    self._forget()
                    return Job.refused(FpgmError(_TOO_MUCH), key)
                self._known[key] = begun
            job = self._known[key]
            self._known.move_to_end(key)
            self._wanted[session, name] = job
            self._forget()
            self._admit()
            self._wake.notify()
            return job

    def tend(self) -> None:
        """Go on where the thread was lost: what waits, and what was under way, is done by another."""
        with self._wake:
            if not self._thread.is_alive() and not self._closed:
                self._thread = self._started()

    @property
    def limits(self) -> Limits:
        """How much long work it does at once."""
        return self._limits or Limits.configured()

    @property
    def under_way(self) -> int:
        """How many jobs are wanted and not finished."""
        return len({id(job) for job in list(self._wanted.values()) if not job.done})

    def due(self, job: Job[Any]) -> float:
        """In about how many seconds a measurement has more to show, as far as that is known; 0 where it is not."""
        with self._wake:
            return self._turns.due(job, [other for other in self._active().values() if not other.long])

    def cancel(self, session: str, name: str | None = None) -> None:
        """The session wants its job of that name no longer, or none of its jobs; one stops unless others want it.

        A step that then goes on for longer than the worker's patience is broken off.
        """
        with self._wake:
            for owner in [owner for owner in self._wanted if owner[0] == session and name in (None, owner[1])]:
                del self._wanted[owner]
            self._forget()
            self._admit()
            if self._at is not None and self._patience is not None and not self._is_wanted(self._at):
                self._break_off_after(self._patience, self._at)

    def _break_off_after(self, seconds: float, job: Job[Any]) -> None:
        breaking = threading.Timer(seconds, self._break_off, (job,))
        breaking.daemon = True
        breaking.start()

    def _break_off(self, job: Job[Any]) -> None:
        with self._wake:
            if self._at is job and not self._is_wanted(job) and not self._step.break_off(in_imports=False):
                self._break_off_after(0.5, job)

    def _is_wanted(self, job: Job[Any]) -> bool:
        return any(wanted is job for wanted in self._wanted.values())

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

    def _active(self) -> dict[int, Job[Any]]:
        return {id(job): job for job in self._wanted.values() if not job.done}

    def _long(self) -> list[Job[Any]]:
        return [job for job in self._active().values() if job.long]

    def _admit(self) -> None:
        """Give long work its turn as far as there is room, and every other its place in the queue."""
        long, limits = self._long(), self.limits
        sessions = {id(job): {who for (who, _), wanted in self._wanted.items() if wanted is job} for job in long}
        self._running = [job for job in self._running if id(job) in sessions]
        waiting = sorted((job for job in long if job not in self._running), key=lambda job: job.begun)
        for job in tuple(waiting):
            of_session = [sum(who in sessions[id(other)] for other in self._running) for who in sessions[id(job)]]
            if len(self._running) < limits.server and min(of_session) < limits.session:
                self._running.append(job)
                waiting.remove(job)
                job.place = 0
        for place, job in enumerate(waiting, 1):
            job.place = place

    def _next(self) -> Job[Any] | None:
        """The job whose turn it is. Waits where there is none; None at the end."""
        with self._wake:
            self._at = None
            while not self._closed:
                self._admit()
                brief = [job for job in self._active().values() if not job.long]
                if brief or self._running:
                    askers = {id(job): sum(wanted is job for wanted in self._wanted.values()) for job in brief}
                    self._at = self._turns.choose(brief, self._running, askers)
                    return self._at
                self._wake.wait()
            return None

    def _run(self) -> None:
        _yield_to_the_page()
        while (job := self._next()) is not None:
            self._do(job)
            del job  # while it waits for the next this thread keeps nothing, nor what the work is about

    def _do(self, job: Job[Any]) -> None:
        begun, is_first = time.monotonic(), not job.has_news
        try:
            with self._step.running():
                job.step()
        except Abandoned:
            pass  # nobody has it any more
        self._turns.spent(job, time.monotonic() - begun, is_first=is_first)
        if job.done:
            job.close()


class Turns:
    """Whose turn it is: `choose` picks, and is told what the step took."""

    def __init__(self) -> None:
        self._steps = self._begun = 0
        self._first = self._rest = 0.0  # seconds that first figures had lately, and the rest of measurements
        self._finishing = 0  # the job's identity, not the job, which may be cancelled and is to go then
        self._step_to_first = 0.0  # seconds that a step to a first figure took lately

    def choose(self, brief: Sequence[Job[Any]], long: Sequence[Job[Any]], askers: Mapping[int, int]) -> Job[Any]:
        """One of the jobs, of which there is one at least; `askers` says how many sessions want each brief one."""
        self._steps += 1
        if long and (self._steps % 2 or not brief):
            return long[self._steps // 2 % len(long)]
        firsts = [job for job in brief if not job.has_news]
        rest = [job for job in brief if job.has_news]
        if firsts and (not rest or self._first <= _AHEAD + 2 * self._rest):
            return min(firsts, key=lambda job: job.begun)
        found = next((job for job in rest if id(job) == self._finishing), None)
        if found is None:
            most = max(askers[id(job)] for job in rest)
            wanted = sorted((job for job in rest if askers[id(job)] == most), key=lambda job: job.begun)
            self._begun += 1
            found = wanted[-1 if self._begun % _OLDEST else 0]
            self._finishing = id(found)
        return found

    def due(self, job: Job[Any], brief: Sequence[Job[Any]]) -> float:
        """In about how many seconds one of the `brief` jobs has more to show: after the others whose turn is before."""
        if job.has_news:
            return _LATER * any(id(other) == self._finishing and other is not job for other in brief)
        ahead = sum(not other.has_news and other.begun < job.begun for other in brief)
        return min(_LATER, ahead * self._step_to_first)  # some of those before may be cancelled

    def spent(self, job: Job[Any], seconds: float, *, is_first: bool) -> None:
        """A step of a job took so long; `is_first` where it had nothing to show before."""
        if job.long:
            return
        if is_first:
            self._step_to_first += (seconds - self._step_to_first) * (0.1 if self._step_to_first else 1.0)
        kept = math.exp(-seconds / _LATELY)
        self._first = kept * self._first + seconds * is_first
        self._rest = kept * self._rest + seconds * (not is_first)


def _yield_to_the_page() -> None:
    """Let pages run before this thread, and the threads it starts: a hand on a bar must not wait for arithmetic.

    By the least step: by five the exact figure beside a browser on the same two cores came a quarter later, and the
    drags of thirty browsers no sooner.
    """
    if hasattr(os, "setpriority"):  # on Linux a thread's own niceness, inherited by torch's pool
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 1)
