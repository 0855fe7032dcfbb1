"""Timing in turns, with numpy alone: this file is what runs on another board too, see `boards`.

Subjects are run in turns, warm, on held cores, until their intervals are narrow or the time is up. A piece of known
work is timed in every round: it tells whether the machine left the subjects any time.
"""

from __future__ import annotations

import hashlib
import math
import os
import platform
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache

import numpy as np

FEWEST = 6  # values of which the least and the largest bracket the median with 95% confidence: 1 - 2 / 2^6
HAD = 0.9  # of a lap's time a thread must have had a processor, or the round is thrown away
_WARM_UP = 3
_SHORT = 2e-4  # seconds: shorter passes are timed several on end, so that the clock's own time does not count
_MOST_ROUNDS = 4000
_KNOWN = bytes(1 << 18)
_WAITED, _SPREAD, _DISTURBED, _LOAD = 0.05, 0.15, 0.3, 1.25  # beyond these the machine is busy

Pass = Callable[[], object]
"""One pass of a network over a batch, everything that it sets going included."""


@dataclass(frozen=True)
class Lap:
    """One timed stretch of work: its `seconds`, and the share of them that the calling thread had a processor."""

    seconds: float
    had: float = 1.0


Stopwatch = Callable[[Pass, int], Lap]


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
        crowded = self.load is not None and self.load > _LOAD  # more to run than cores: long passes wait, short do not
        return crowded or self.waited > _WAITED or self.spread > _SPREAD or self.disturbed > _DISTURBED

    @property
    def told(self) -> str:
        """In a few words."""
        load = "" if self.load is None else f", load {self.load:.1f} a core"
        return (
            f"{'busy' if self.busy else 'quiet'}: a known piece of work waited {self.waited:.0%} of its time and "
            f"spread by {self.spread:.0%}{load}; {self.disturbed:.0%} of the rounds were disturbed"
        )


def median_of(values: np.ndarray) -> tuple[float, float, float]:
    """The median of `values` (N,) with a 95% interval of order statistics: value, low, high.

    The interval between the k-th smallest and the k-th largest misses the median where fewer than k values fall on one
    side of it: binomial, whatever the values' distribution (David and Nagaraja, Order Statistics, 7.1). Raises
    ValueError for fewer than `FEWEST` values, which no 95% interval can be made of.
    """
    if len(values) < FEWEST:
        raise ValueError(f"{len(values)} values have no 95% interval of their median")
    ordered, rank = np.sort(values), _rank(len(values))
    return float(np.median(ordered)), float(ordered[rank]), float(ordered[-1 - rank])


@cache
def _rank(count: int) -> int:
    """The largest r so that at most r of `count` fair coins show heads with a chance of at most 2.5%."""
    room, chance, rank = 2**count // 40, 1, -1
    total = 1
    while total <= room:
        rank += 1
        chance = chance * (count - rank) // (rank + 1)
        total += chance
    return rank


def is_narrow(interval: tuple[float, float, float], width: float) -> bool:
    """Whether an interval (value, low, high) is no wider than +- `width` of its value, a share."""
    value, low, high = interval
    return high - low <= 2 * width * value


def lap(work: Pass, number: int = 1) -> Lap:
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
def held_cores(threads: int) -> Iterator[None]:
    """The calling thread on as many cores as it has threads; restored afterwards.

    Threads that are made inside stay on those cores. Where the system cannot hold a thread to cores, none is.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if threads >= len(cores):
        yield
        return
    os.sched_setaffinity(0, cores[:threads])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


@cache
def processor() -> str:
    """What the processor calls itself, and how many cores there are."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in file)}
        name = found.get("model name") or found.get("Hardware") or name
    except OSError:
        pass
    return f"{name}, {os.cpu_count()} cores"


@dataclass(frozen=True)
class Limits:
    """How long to time: at least `runs` rounds, on until intervals are within +- `width`, or `seconds` are over.

    `stopwatch` times passes on end, `load` tells the machine's load by core.
    """

    runs: int
    width: float
    seconds: float
    stopwatch: Stopwatch = lap
    load: Callable[[], float | None] = load_by_core


Timed = tuple[dict[str, np.ndarray], Conditions]
"""By name the seconds of every round's pass, float64 (rounds,), and what else went on."""


def in_turns(
    passes: Mapping[str, Pass],
    limits: Limits,
    *,
    own_thread: bool = False,
    hold: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Generator[float, None, Timed]:
    """Time passes in turns, every other round in reversed order, after warm-up; yields the share that is done.

    `own_thread` says that the passes run in the calling thread alone: rounds in which it lost its processor are then
    thrown away, unless too few are left. `hold` is entered around every pass.
    """
    load, begun = limits.load(), time.monotonic()
    rounds = _Rounds(dict(passes), limits, hold)
    rounds.warm_up()
    while True:
        spent = time.monotonic() - begun
        over = spent > limits.seconds or rounds.count >= _MOST_ROUNDS
        if rounds.count >= limits.runs and (over or rounds.worth_a_look):
            seconds, conditions = rounds.found(own_thread, load)
            if over or all(is_narrow(one, limits.width) for one in intervals_of(seconds)):
                return seconds, conditions
        yield min(0.99, max(0.5 * min(1.0, rounds.count / limits.runs), spent / limits.seconds))
        rounds.add()


def intervals_of(seconds: Mapping[str, np.ndarray]) -> list[tuple[float, float, float]]:
    """The interval of every subject's ratio to the first; of the first itself, where it is alone."""
    first, *others = seconds.values()
    return [median_of(first / other) for other in others] or [median_of(first)]


class _Rounds:
    """Rounds as they are timed."""

    def __init__(
        self, passes: dict[str, Pass], limits: Limits, hold: Callable[[], AbstractContextManager[object]]
    ) -> None:
        self._passes, self._limits, self._hold = passes, limits, hold
        self._numbers = dict.fromkeys(passes, 1)
        self._laps: dict[str, list[Lap]] = {name: [] for name in passes}
        self._known: list[Lap] = []
        self._next_look = 0

    @property
    def count(self) -> int:
        """How many rounds there are."""
        return len(self._known)

    @property
    def worth_a_look(self) -> bool:
        """Whether intervals should be looked at now: at every tenth more rounds."""
        if self.count < self._next_look:
            return False
        self._next_look = math.ceil(1.1 * self.count)
        return True

    def warm_up(self) -> None:
        """Run each a few times, and find how many passes on end are long enough to time."""
        for name, one in self._passes.items():
            with self._hold():
                took = min(self._limits.stopwatch(one, 1).seconds for _ in range(_WARM_UP))
            self._numbers[name] = max(1, math.ceil(_SHORT / max(took, 1e-7)))

    def add(self) -> None:
        """One round."""
        names = list(self._passes)
        for name in names if self.count % 2 == 0 else reversed(names):
            number = self._numbers[name]
            with self._hold():
                if number > 1:  # what is over so soon would be timed with another's data in the caches
                    self._passes[name]()
                timed = self._limits.stopwatch(self._passes[name], number)
            self._laps[name].append(Lap(timed.seconds / number, timed.had))
        self._known.append(self._limits.stopwatch(known_work, 1))

    def found(self, own_thread: bool, load: float | None) -> Timed:
        """What the rounds so far say."""
        had = np.array([[one.had for one in laps] for laps in self._laps.values()]).min(0)
        good = had >= HAD if own_thread else np.ones(self.count, dtype=bool)
        disturbed = float(1 - good.mean())
        if good.sum() < self._limits.runs:
            good[:] = True
        seconds = {name: np.array([one.seconds for one in laps])[good] for name, laps in self._laps.items()}
        return seconds, conditions_of(self._known, load, disturbed)
