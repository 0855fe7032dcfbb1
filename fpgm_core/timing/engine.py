"""Timing several subjects in turns: warm, on held threads, until the interval is narrow or the time is up."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from fpgm_core.errors import FpgmError
from fpgm_core.evaluation import Interval
from fpgm_core.runtime.locks import FORWARD_LOCK
from fpgm_core.runtime.progress import Progress, Work
from fpgm_core.timing.intervals import FEWEST, is_narrow, median_interval, ratio_verdict
from fpgm_core.timing.machine import (
    HAD,
    Conditions,
    Lap,
    conditions_of,
    held_threads,
    known_work,
    lap,
    load_by_core,
)

_WARM_UP = 3
_SHORT = 2e-4  # seconds: shorter passes are timed several on end, so that the clock's own time does not count
_MOST_ROUNDS = 4000

Pass = Callable[[], object]
"""One pass of a network over a batch, everything that it sets going included."""
Stopwatch = Callable[[Pass, int], Lap]


@dataclass(frozen=True, kw_only=True)
class TimingConfig:
    """How long to time.

    At least `runs` rounds; then on until every interval reaches no further than +- `width` of its value, or `seconds`
    are over. `stopwatch` times passes on end, by the wall's clock unless given. Raises FpgmError for fewer than 6
    runs, of which no 95% interval can be made, and for a width or a time that is not positive.
    """

    runs: int = 15
    width: float = 0.02
    seconds: float = 20.0
    stopwatch: Stopwatch = lap

    def __post_init__(self) -> None:
        if self.runs < FEWEST:
            raise FpgmError(f"of {self.runs} runs no 95% interval can be made; give at least {FEWEST}")
        if not (self.width > 0 and self.seconds > 0):
            raise FpgmError(f"cannot time to +-{self.width:g} within {self.seconds:g} s; give positive numbers")


@dataclass(frozen=True, eq=False)
class Timings:
    """What subjects took, timed in turns: by name the seconds of every round's pass, float64 (rounds,).

    A round is one pass of each; what disturbs the machine disturbs all, and is in their ratio no more. `width` is what
    was asked.
    """

    seconds: Mapping[str, np.ndarray]
    conditions: Conditions
    width: float

    @property
    def rounds(self) -> int:
        """How many rounds count."""
        return len(next(iter(self.seconds.values())))

    def ms(self, name: str) -> Interval:
        """A subject's median in milliseconds."""
        return median_interval(self.seconds[name] * 1000)

    def spread(self, name: str) -> float:
        """The distance of a subject's quartiles as a share of its median."""
        low, median, high = np.percentile(self.seconds[name], [25, 50, 75])
        return float((high - low) / median)

    def ratio(self, slow: str, fast: str) -> Interval:
        """How many times as long one takes as another: the median of the rounds' ratios."""
        return median_interval(self.seconds[slow] / self.seconds[fast])

    def verdict(self, slow: str, fast: str) -> str:
        """What may be said of that ratio: see `ratio_verdict`."""
        return ratio_verdict(self.ratio(slow, fast), self.conditions.busy, self.width)

    @property
    def narrow(self) -> bool:
        """Whether every ratio to the first subject is as narrow as was asked; its own median, where it is alone."""
        first, *others = self.seconds
        found = [self.ratio(first, other) for other in others] or [self.ms(first)]
        return all(is_narrow(one, self.width) for one in found)


def timings_work(
    passes: Mapping[str, Pass], *, threads: int, config: TimingConfig = TimingConfig(), own_thread: bool = False
) -> Work[Timings]:
    """Time passes in turns, every other round in reversed order, after warm-up, with torch on so many `threads`.

    `own_thread` says that the passes run in the calling thread alone: rounds in which it lost its processor are then
    thrown away, unless too few are left. Raises FpgmError for no threads.
    """
    if threads < 1:
        raise FpgmError(f"cannot time on {threads} threads; give at least 1")
    load, begun = load_by_core(), time.monotonic()
    rounds = _Rounds(dict(passes), threads, config)
    rounds.warm_up()
    while True:
        spent = time.monotonic() - begun
        over = spent > config.seconds or rounds.count >= _MOST_ROUNDS
        if rounds.count >= config.runs and (over or rounds.worth_a_look):
            found = rounds.found(own_thread, load)
            if over or found.narrow:
                return found
        done = max(min(1.0, rounds.count / config.runs) * 0.5, min(1.0, spent / config.seconds))
        yield Progress(min(done, 0.99), what="timing")
        rounds.add()


class _Rounds:
    """Rounds as they are timed."""

    def __init__(self, passes: dict[str, Pass], threads: int, config: TimingConfig) -> None:
        self._passes, self._threads, self._config = passes, threads, config
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
            with held_threads(self._threads), FORWARD_LOCK:
                took = min(self._config.stopwatch(one, 1).seconds for _ in range(_WARM_UP))
            self._numbers[name] = max(1, math.ceil(_SHORT / max(took, 1e-7)))

    def add(self) -> None:
        """One round."""
        names = list(self._passes)
        for name in names if self.count % 2 == 0 else reversed(names):
            number = self._numbers[name]
            with held_threads(self._threads), FORWARD_LOCK:
                if number > 1:  # what is over so soon would be timed with another's data in the caches
                    self._passes[name]()
                timed = self._config.stopwatch(self._passes[name], number)
            self._laps[name].append(Lap(timed.seconds / number, timed.had))
        self._known.append(self._config.stopwatch(known_work, 1))

    def found(self, own_thread: bool, load: float | None) -> Timings:
        """What the rounds so far say."""
        had = np.array([[one.had for one in laps] for laps in self._laps.values()]).min(0)
        good = had >= HAD if own_thread else np.ones(self.count, dtype=bool)
        disturbed = float(1 - good.mean())
        if good.sum() < self._config.runs:
            good[:] = True
        seconds = {name: np.array([one.seconds for one in laps])[good] for name, laps in self._laps.items()}
        return Timings(seconds, conditions_of(self._known, load, disturbed), self._config.width)
