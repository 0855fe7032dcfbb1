"""What the server does between visits: it ends what tabs left behind, and lets go of what nobody looks at.

Streamlit keeps a tab that lost its connection for two minutes, for it may come back. Its work ends much sooner; what
it had on screen stays, and is begun again where it comes back.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

import streamlit as st
from streamlit.runtime import Runtime

from fpgm_core.runtime.cache import clear_caches
from fpgm_core.runtime.limits import configured_bytes
from fpgm_core.runtime.memo import once
from fpgm_core.runtime.memory import resident_bytes, return_freed_memory
from pages.ui.session.apart import measuring_process
from pages.ui.session.jobs import workers
from pages.ui.session.recovered import TRAINED

GRACE, LINGER, REST = 3.0, 120.0, 20.0  # seconds after which work ends, a tab is gone, a server without tabs rests
IDLE = 5.0  # seconds without any work after which freed memory goes back
_REST_BYTES = 1 << 30
_EVERY = 1.0  # seconds
log = logging.getLogger(__name__)


class Tab(Protocol):
    """What is kept of a browser's tab."""

    def pause(self) -> None:
        """End its work, until it comes back."""

    def close(self) -> None:
        """End all that belongs to it."""


class Quiet:
    """Does `act` once whenever nothing has gone on for so many seconds; `now` is as for `House`."""

    def __init__(self, act: Callable[[], object], seconds: float) -> None:
        self._act, self._seconds = act, seconds
        self._is_done, self._since = True, 0.0

    def tick(self, now: float, *, is_busy: bool) -> None:
        """Say whether anything goes on."""
        if is_busy:
            self._is_done, self._since = False, now
        elif not self._is_done and now - self._since >= self._seconds:
            self._is_done = True
            self._act()


class House:
    """The tabs of this process. `tick` is called every second or so; `now` is in seconds, of any clock that goes on."""

    def __init__(self, let_go: Callable[[], object]) -> None:
        self._rest = Quiet(let_go, REST)
        self._lock = threading.Lock()
        self._tabs: dict[str, Tab] = {}
        self._gone: dict[str, float] = {}  # since when

    def enter(self, name: str, tab: Tab) -> None:
        """A tab was opened; `name` is its session's."""
        with self._lock:
            self._tabs[name] = tab
            self._gone.pop(name, None)
        log.info("session %s is here", name[:8])

    def tick(self, is_open: Callable[[str], bool], now: float) -> list[str]:
        """Do what is due; the names of tabs that have been gone for good since the last time."""
        with self._lock:
            tabs = dict(self._tabs)
        closed = [name for name in tabs if not is_open(name)]
        for name in tabs:
            if name not in closed:
                self._gone.pop(name, None)
        for name in closed:
            away = now - self._gone.setdefault(name, now)
            if away >= LINGER:
                with self._lock:
                    self._tabs.pop(name, None)
                del self._gone[name]
                tabs[name].close()
                log.info("session %s has gone", name[:8])
            elif away >= GRACE:
                tabs[name].pause()
        self._rest.tick(now, is_busy=len(closed) < len(tabs))
        return [name for name in closed if name not in self._tabs]


@once
def house() -> House:
    """This process's."""
    return House(let_go)


@once
def idleness() -> Quiet:
    """Gives freed memory back while no work of this process is under way."""
    return Quiet(give_back, IDLE)


def _holds_much() -> bool:
    """Whether the process holds more than `FPGM_REST_BYTES`, default 1 GiB, or cannot tell."""
    held = resident_bytes()
    return held is None or held > configured_bytes("FPGM_REST_BYTES", _REST_BYTES)


def give_back() -> None:
    """Give what was freed and kept for the next batch back to the system, where the process holds much."""
    if _holds_much():
        gc.collect()  # a network that was let go of is a circle
        return_freed_memory()


def let_go() -> None:
    """Forget what can be made anew, where the process holds much; and end the one that measures for it."""
    measuring_process().close()
    if not _holds_much():
        return
    before = resident_bytes()
    clear_caches(keep=(TRAINED,))  # what was trained is not made anew in a moment
    st.cache_resource.clear()
    st.cache_data.clear()
    give_back()
    log.info("nobody is here: %s MB of memory became %s", *(size and size >> 20 for size in (before, resident_bytes())))


async def keep_house() -> None:
    """Look after the tabs of this process as long as its server runs."""
    while True:
        await asyncio.sleep(_EVERY)
        if not Runtime.exists():
            continue
        runtime = Runtime.instance()
        try:
            gone = await asyncio.to_thread(house().tick, runtime.is_active_session, time.monotonic())
            for name in gone:
                runtime.close_session(name)
            for worker in workers():
                worker.tend()
            is_busy = any(worker.under_way for worker in workers())
            await asyncio.to_thread(idleness().tick, time.monotonic(), is_busy=is_busy)
        except Exception:  # the server goes on
            log.exception("housekeeping failed")
