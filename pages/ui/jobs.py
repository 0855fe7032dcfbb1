"""Work in the background, on one worker for the device: measurements in their order, long work in turns."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Generic, TypeVar

import streamlit as st

from fpgm_core import EvaluationConfig, FpgmError, Network, Plan, measure
from fpgm_core.criteria.layouts import compute_layout
from fpgm_core.criteria.projections import Projection
from fpgm_core.evaluation import Figure, Repairing
from fpgm_core.runtime.memory import keep_freed_memory

log = logging.getLogger(__name__)
T = TypeVar("T")


def _yield_to_the_page() -> None:
    """Let pages run before this thread, and the threads it starts: a hand on a bar must not wait for arithmetic.

    By the least step: by five the exact figure beside a browser on the same two cores came a quarter later, and the
    drags of thirty browsers no sooner.
    """
    if hasattr(os, "setpriority"):  # on Linux a thread's own niceness, inherited by torch's pool
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 1)


class Job(Generic[T]):
    """One piece of work in the background: the latest that it brought. Its fields are only written by the worker.

    A measurement takes seconds, and the engine remembers it for whoever asks the same again; `long` work does not.
    """

    def __init__(self, steps: Iterator[T | None], long: bool) -> None:
        self.latest: T | None = None
        self.error: str | None = None
        self.long = long
        self.begun = time.monotonic()
        self._steps = steps
        self._told, self._ended = threading.Event(), threading.Event()

    @property
    def done(self) -> bool:
        """Whether it came to its end, or failed."""
        return self._ended.is_set()

    def wait(self, seconds: float) -> None:
        """Wait for the first result, or where there is one for the end, at most so long."""
        (self._ended if self._told.is_set() else self._told).wait(seconds)

    def step(self) -> None:
        """Do one batch of work. Errors end the job and are kept, in words, for the page."""
        try:
            self.latest = next(self._steps) or self.latest
        except StopIteration:
            self._ended.set()
        except FpgmError as error:
            self._fail(str(error))
        except Exception as error:  # whatever torch raises must end this job, not the worker
            log.exception("measurement failed")
            self._fail(f"it failed ({type(error).__name__}: {error})")
        if self.latest is not None or self.done:
            self._told.set()

    def _fail(self, words: str) -> None:
        self.error = words
        self._ended.set()

    def close(self) -> None:
        """Stop for good; what was measured stays readable."""
        close = getattr(self._steps, "close", None)
        if close:
            close()


class Engine:
    """Runs every session's jobs on one worker thread.

    A session has one job at a time; asking for another cancels it. Equal requests share one job. Measurements are
    served in the order they were asked for, every first figure before the rest of any: in turns all would come as
    late as the last. Long work has every other step, each in turn.
    """

    def __init__(self, remembered: int = 256) -> None:
        self._wake = threading.Condition()
        self._wanted: dict[str, Job[Any]] = {}  # session -> its job
        self._known: OrderedDict[Hashable, Job[Any]] = OrderedDict()  # every live or finished job
        self._remembered = remembered
        self._closed = False
        self._worker = threading.Thread(target=self._work, name="fpgm-measurements", daemon=True)
        self._worker.start()
        atexit.register(self.close)  # an interpreter that ends while torch computes aborts

    def request(
        self, session: str, network: Network, plan: Plan, settings: EvaluationConfig
    ) -> Job[Figure | Repairing]:
        """The job that measures `plan`, begun or found. Raises FpgmError where it cannot be measured."""
        return self.run(session, (plan.key, settings), lambda: measure(network, plan, settings), long=False)

    def run(
        self,
        session: str,
        key: Hashable,
        begin: Callable[[], Iterator[T | None]],
        long: bool = True,
    ) -> Job[T]:
        """The job of that key, found, or begun with the steps that `begin` returns; the session wants no other."""
        with self._wake:
            known = self._known.get(key)
        # Outside, where nobody waits for it; of two who begin the same at once the first is right.
        found = Job(begin(), long) if known is None or known.error else known
        with self._wake:
            known = self._known.get(key)
            job = self._known[key] = found if known is None or known.error else known
            self._known.move_to_end(key)
            self._wanted[session] = job
            self._forget()
            self._wake.notify()
            return job

    @property
    def under_way(self) -> int:
        """How many jobs are wanted and not finished: measurements, and long work beside them."""
        return len({id(job) for job in list(self._wanted.values()) if not job.done})

    def cancel(self, session: str) -> None:
        """The session wants nothing any more: its job stops unless another session wants it too."""
        with self._wake:
            self._wanted.pop(session, None)
            self._forget()

    def close(self) -> None:
        """Stop the worker after the batch it is at."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._worker.join(10)

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
                        return min(brief, key=lambda job: (job.latest is not None, job.begun))
                    return long[turn // 2 % len(long)]
                self._wake.wait()
            return None

    def _work(self) -> None:
        _yield_to_the_page()
        turn = 0
        while (job := self._next(turn)) is not None:
            job.step()
            if job.done:
                job.close()
            turn += 1


@st.cache_resource(show_spinner=False)
def engine() -> Engine:
    """The process's one engine, shared by every session."""
    keep_freed_memory()
    return Engine()


class LayoutJobs:
    """UMAP layouts computed one after another in the background, and kept on disk."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy = threading.Lock()  # numba's compiled UMAP takes one at a time
        self._state: dict[Hashable, Projection | str | None] = {}

    def request(self, network: Network, layer: str, seed: int) -> Projection | str | None:
        """The layout, an error in words, or None while it is being computed."""
        key = (network.fingerprint, layer, seed)
        with self._lock:
            if key in self._state:
                return self._state[key]
            if len(self._state) > 512:
                self._state = {k: v for k, v in self._state.items() if v is None}
            self._state[key] = None
        threading.Thread(target=self._compute, args=(key, network, layer, seed), daemon=True).start()
        return None

    def _compute(self, key: Hashable, network: Network, layer: str, seed: int) -> None:
        result: Projection | str
        try:
            with self._busy:
                weights = network.module.get_submodule(layer).get_parameter("weight")
                result = compute_layout(network.fingerprint, layer, weights, seed)
        except Exception as error:  # whatever UMAP raises on odd filters is told on the page
            log.exception("layout failed")
            result = f"UMAP failed on this layer ({error})"
        with self._lock:
            self._state[key] = result


@st.cache_resource(show_spinner=False)
def layout_jobs() -> LayoutJobs:
    """The process's layouts in the making."""
    return LayoutJobs()
