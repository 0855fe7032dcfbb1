"""A bounded memory of computed values, and what a process makes once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from functools import wraps
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")


class Memo:
    """At most `limit` computed values by key, the oldest out first; safe between threads.

    For the many small values of one network (scores, masks, costs), which go with it. Not a `Cache`: every drag of
    every session reads dozens of them, and reading takes no lock here. Threads would queue for one, each a switch of
    the interpreter away, and keeping the order of use, which the budget needs, is a write.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: dict[Hashable, Any] = {}
        self._lock = threading.Lock()

    def __call__(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """The value of `key`, computed where it is not there; arrays are made read-only."""
        value = self._values.get(key, self)
        if value is not self:
            return value
        value = compute()  # outside the lock: two threads may both compute it, to the same result
        if isinstance(value, np.ndarray):
            value.setflags(write=False)
        with self._lock:
            self._values[key] = value
            while len(self._values) > self._limit:
                del self._values[next(iter(self._values))]
        return value


def once(make: Callable[[], T]) -> Callable[[], T]:
    """`make`, called once for the process: threads that ask at the same time wait for one value."""
    lock, made = threading.Lock(), list[T]()

    @wraps(make)
    def get() -> T:
        with lock:
            if not made:
                made.append(make())
            return made[0]

    return get
