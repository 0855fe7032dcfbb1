"""A CPU's cores, each with a batch of its own.

Threads that share every operation wait for each other after each one, and all of them for a core that somebody
else needs. Batches that do not depend on each other need no waiting.
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
    """How many batches run at once: as many as torch has threads on a CPU, one elsewhere."""
    return torch.get_num_threads() if device.type == "cpu" else 1


def each(work: Callable[[P], R], pieces: Sequence[P], device: torch.device) -> list[R]:
    """`[work(piece) for piece in pieces]`, on a CPU a core each.

    `work` runs in another thread: modes that belong to a thread (inference mode, autocast) are its own to set,
    and the modules it runs must not be changed by running. The first error that a piece raises is raised. Every
    piece is computed by one thread, however many there are: results do not depend on the machine's cores.
    """
    count = workers(device)
    if count == 1:
        return [work(piece) for piece in pieces]
    return _pool(count).map(work, pieces, chunksize=1)


def split(begin: int, end: int, most: int, device: torch.device) -> list[tuple[int, int]]:
    """`begin` to `end` in consecutive pieces of at most `most`, and small enough that every core has one."""
    size = max(1, min(most, -(-(end - begin) // workers(device))))
    return [(at, min(at + size, end)) for at in range(begin, end, size)]


class _Threads(ThreadPool):
    """Threads that end with the process; the library's own way of ending them prints errors when that is late."""

    def __del__(self) -> None:
        pass


@cache
def _pool(count: int) -> ThreadPool:
    """`count` threads that compute with one thread each; torch's setting for everybody else stays.

    Not concurrent.futures: its pools refuse work as soon as the interpreter begins to end, while a measurement of
    another thread may be under way.
    """
    ready = threading.Barrier(count + 1)

    def alone() -> None:
        torch.set_num_threads(1)
        torch.get_num_threads()  # a thread takes the setting when it is first asked, and keeps it
        ready.wait()

    pool = _Threads(count, alone)
    ready.wait()
    torch.set_num_threads(count)  # the workers' setting would else be that of threads yet to come
    return pool
