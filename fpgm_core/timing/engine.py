"""Timing several subjects in turns, as work: with torch on so many threads, nothing traced meanwhile; what it says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from fpgm_core.errors import FpgmError
from fpgm_core.evaluation import Interval
from fpgm_core.runtime.locks import FORWARD_LOCK
from fpgm_core.runtime.progress import Progress, Work
from fpgm_core.timing.intervals import median_interval, ratio_verdict
from fpgm_core.timing.turns import FEWEST, Conditions, Limits, Pass, held_cores, in_turns


@dataclass(frozen=True, kw_only=True)
class TimingConfig(Limits):
    """How long to time.

    At least `runs` rounds; then on until every interval reaches no further than +- `width` of its value, or `seconds`
    are over. `stopwatch` times passes on end, by the wall's clock unless given; `load` tells the machine's. Raises
    FpgmError for fewer than 6 runs, of which no 95% interval can be made, and for a width or a time that is not
    positive.
    """

    runs: int = 15
    width: float = 0.02
    seconds: float = 20.0

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


def timings_work(
    passes: Mapping[str, Pass], *, threads: int, config: TimingConfig | None = None, own_thread: bool = False
) -> Work[Timings]:
    """Time passes in turns with torch on so many `threads`; `own_thread` as for `in_turns`.

    Raises FpgmError for no threads.
    """
    if threads < 1:
        raise FpgmError(f"cannot time on {threads} threads; give at least 1")
    config = config or TimingConfig()
    turns = in_turns(passes, config, own_thread=own_thread, hold=lambda: held(threads))
    while True:
        try:
            share = next(turns)
        except StopIteration as end:
            seconds, conditions = end.value
            return Timings(seconds, conditions, config.width)
        yield Progress(share, what="timing")


@contextmanager
def held(threads: int) -> Iterator[None]:
    """Torch on so many threads, the calling thread on as many cores, and nobody tracing; restored afterwards."""
    before = torch.get_num_threads()
    with FORWARD_LOCK, held_cores(threads):
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)
