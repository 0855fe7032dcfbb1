"""Long work: generators that tell how far they are, and return what they come to.

A function called `x_work` does x step by step: iterate it to show progress, stop iterating to cancel, `run` it to
its end, or make it a part of other work with `yield from within(...)`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """How far work is: `done` of `total`, in any unit; `what` is being done, in a few words.

    `seconds_left` is an estimate, None while there is none; `partial` the result so far, where a part of one means
    something: a measurement on the images seen so far, say.
    """

    done: float
    total: float = 1.0
    what: str = ""
    seconds_left: float | None = None
    partial: Any = None

    @property
    def share(self) -> float:
        """The share that is done, 0..1."""
        return min(1.0, max(0.0, self.done / self.total)) if self.total > 0 else 1.0


Work = Generator[Progress, None, T]


def run(work: Work[T], on_progress: Callable[[Progress], object] | None = None) -> T:
    """Do work to its end and return what it comes to; `on_progress` is told every step."""
    while True:
        try:
            progress = next(work)
        except StopIteration as end:
            result: T = end.value
            return result
        if on_progress is not None:
            on_progress(progress)


def within(work: Work[T], begin: float = 0.0, end: float = 1.0, what: str | None = None) -> Work[T]:
    """Work as a part of other work: its progress spread from `begin` to `end` of the whole's 0..1.

    `what`, where given, replaces what the part says of itself. Use it as `result = yield from within(part_work(...))`.
    The estimate of the time left is the part's, not the whole's, and is left out.
    """
    try:
        while True:
            progress = next(work)
            share = begin + (end - begin) * progress.share
            told = progress.what if what is None else what
            yield replace(progress, done=share, total=1.0, what=told, seconds_left=None)
    except StopIteration as finished:
        result: T = finished.value
        return result
    finally:
        work.close()


def behind(work: Work[T], progress: Progress) -> Work[T]:
    """Work whose every step tells the same: what larger work says of itself while a part of it goes on."""
    try:
        while True:
            next(work)
            yield progress
    except StopIteration as finished:
        result: T = finished.value
        return result
    finally:
        work.close()


def timed(work: Work[T], clock: Callable[[], float] = time.monotonic) -> Work[T]:
    """The same work with an estimate of the time left in every step: at the pace so far, once 2% more are done.

    The pace counts from the first step: work that resumes begins with what was done before.
    """
    begun: tuple[float, float] | None = None  # when the first step came, and its share
    try:
        while True:
            progress = next(work)
            start, share = begun = begun or (clock(), progress.share)
            if progress.seconds_left is None and progress.share - share >= 0.02:
                left = (clock() - start) * (1 - progress.share) / (progress.share - share)
                progress = replace(progress, seconds_left=left)
            yield progress
    except StopIteration as finished:
        result: T = finished.value
        return result
    finally:
        work.close()
