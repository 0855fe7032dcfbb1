"""A CPU's cores, each with its own batch.

Threads that share every operation wait for each other after each one, and for any core that another program uses.
Independent batches need no waiting.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cache
from multiprocessing.pool import ThreadPool
from typing import TypeVar

import torch

P = TypeVar("P")
R = TypeVar("R")


def workers(device: torch.device) -> int:
    """How many batches run at once: one per torch thread on a CPU, one elsewhere."""
    return torch.get_num_threads() if device.type == "cpu" else 1


def each(work: Callable[[P], R], pieces: Sequence[P], device: torch.device) -> list[R]:
    """`[work(piece) for piece in pieces]`, on a CPU one core per piece.

    `work` runs in another thread: it sets the modes that belong to a thread (inference mode, autocast) itself, and
    the modules it runs must not change by running. The first error of any piece is raised. One thread computes a
    piece, however many there are: results do not depend on the number of cores.
    """
    count = workers(device)
    if count == 1:
        return [work(piece) for piece in pieces]
    return _pool(count).map(work, pieces, chunksize=1)


def alone(work: Callable[[], R]) -> R:
    """What `work` returns, on a CPU by a thread that computes alone: for many small operations one after another.

    Shared among threads each of them would wait, at its end, for any core that another program uses. As with `each`
    it is another thread, with modes of its own.
    """
    count = workers(torch.device("cpu"))
    return work() if count == 1 else _pool(count).apply(work)


def split(begin: int, end: int, most: int, device: torch.device) -> list[tuple[int, int]]:
    """`begin` to `end` in consecutive pieces of at most `most`, small enough to give every core one."""
    size = max(1, min(most, -(-(end - begin) // workers(device))))
    return [(at, min(at + size, end)) for at in range(begin, end, size)]


class _Threads(ThreadPool):
    """Threads that end with the process; the library's own finaliser prints errors at interpreter exit."""

    def __del__(self) -> None:
        pass


@cache
def _pool(count: int) -> ThreadPool:
    """`count` threads that compute with one thread each; torch's setting for all others stays.

    Not concurrent.futures: its pools refuse work once the interpreter begins to exit, while another thread may still
    be measuring.
    """
    ready = threading.Barrier(count + 1)

    def prepare() -> None:
        torch.set_num_threads(1)
        torch.get_num_threads()  # a thread adopts the setting when it first reads it
        ready.wait()

    pool = _Threads(count, prepare)
    ready.wait()
    torch.set_num_threads(count)  # or new threads would inherit the workers' setting
    return pool
