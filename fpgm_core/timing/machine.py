"""The machine while it times: its processor, the threads that are held, and whether others left it any time."""

from __future__ import annotations

import hashlib
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

_KNOWN = bytes(1 << 18)
_WAITED, _SPREAD, _DISTURBED = 0.05, 0.15, 0.3  # beyond these the machine is busy
HAD = 0.9  # of a lap's time a thread must have had a processor, or the lap is thrown away


@dataclass(frozen=True)
class Lap:
    """One timed stretch of work: its `seconds`, and the share of them that the calling thread had a processor."""

    seconds: float
    had: float = 1.0


@dataclass(frozen=True)
class Conditions:
    """What else went on while something was timed.

    `load` is the machine's one-minute load by core before it began (None where it has none to tell). A piece of known
    work was timed in every round: `waited` is the share of its time without a processor, `spread` the distance of its
    times' quartiles as a share of their median. `disturbed` is the share of rounds that were thrown away because the
    timed thread lost its processor.
    """

    load: float | None
    waited: float
    spread: float
    disturbed: float

    @property
    def busy(self) -> bool:
        """Whether others took enough of the machine to doubt what was measured."""
        return self.waited > _WAITED or self.spread > _SPREAD or self.disturbed > _DISTURBED

    @property
    def told(self) -> str:
        """In a few words."""
        load = "" if self.load is None else f", load {self.load:.1f} a core"
        return (
            f"{'busy' if self.busy else 'quiet'}: a known piece of work waited {self.waited:.0%} of its time and "
            f"spread by {self.spread:.0%}{load}; {self.disturbed:.0%} of the rounds were disturbed"
        )


def lap(work: Callable[[], object], number: int = 1) -> Lap:
    """Time `number` runs of `work` on end, on the wall's clock and on the thread's own."""
    wall, own = time.perf_counter(), time.thread_time()
    for _ in range(number):
        work()
    seconds, had = time.perf_counter() - wall, time.thread_time() - own
    return Lap(seconds, min(1.0, had / seconds) if seconds > 0 else 1.0)


def known_work() -> None:
    """A piece of work that always takes as long where nothing disturbs it: hashing 256 KiB in one thread."""
    hashlib.sha256(_KNOWN).digest()


def conditions_of(known: list[Lap], load: float | None, disturbed: float) -> Conditions:
    """What laps of `known_work` say of the machine."""
    seconds = np.array([one.seconds for one in known])
    low, median, high = np.percentile(seconds, [25, 50, 75])
    had = sum(one.had * one.seconds for one in known) / seconds.sum()
    return Conditions(load, max(0.0, float(1 - had)), float((high - low) / median), disturbed)


def load_by_core() -> float | None:
    """The load of the last minute by core; None where the system does not tell."""
    try:
        return os.getloadavg()[0] / (os.cpu_count() or 1)
    except (AttributeError, OSError):
        return None


@contextmanager
def held_threads(threads: int) -> Iterator[None]:
    """The calling thread on as many cores as it has threads, torch computing with so many; restored afterwards.

    Threads that are made inside stay on those cores. Where the system cannot hold a thread to cores, none is.
    """
    before, cores = torch.get_num_threads(), _cores()
    torch.set_num_threads(threads)
    if threads < len(cores):
        os.sched_setaffinity(0, cores[:threads])
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if threads < len(cores):
            os.sched_setaffinity(0, cores)


def _cores() -> list[int]:
    """The cores that the calling thread may use; empty where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


@cache
def processor() -> str:
    """What the processor calls itself, and how many cores there are."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        name = found.get("model name") or found.get("Hardware") or name
    except OSError:
        pass
    return f"{name}, {os.cpu_count()} cores"
