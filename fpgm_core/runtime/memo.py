"""A bounded memory of computed values."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np


class Memo:
    """At most `limit` computed values by key, the oldest out first; safe between threads.

    Reading takes no lock: many sessions' threads would queue for it, each a switch of the interpreter away.
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
