"""Work shown while it is done: a line on a terminal's stderr."""

from __future__ import annotations

import sys
from typing import TypeVar

from fpgm_core.runtime.distributed import world
from fpgm_core.runtime.progress import Progress, Work, run, timed

T = TypeVar("T")


def finish(work: Work[T], what: str = "") -> T:
    """Do work to its end, with a line of progress on a terminal's stderr; `what`, where given, says what it is."""
    live = sys.stderr.isatty() and world().is_main

    def tell(progress: Progress) -> None:
        left = "" if progress.seconds_left is None else f", {in_words(progress.seconds_left)} left"
        line = f"{what or progress.what} {progress.share:.0%}{left}"
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)

    try:
        return run(timed(work), tell if live else None)
    finally:
        if live:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def in_words(seconds: float) -> str:
    """A time to come, roughly: "40 s", "3 min", "2.5 h"."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
