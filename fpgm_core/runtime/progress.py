"""Long work as generators: shares done, 0..1, and last what it came to."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import TypeVar

T = TypeVar("T")


def finished(steps: Iterable[float | T], begin: float = 0.0, end: float = 1.0) -> Generator[float, None, T]:
    """Work as a part of other work: passes its shares on, spread from `begin` to `end`; returns what it came to.

    To be used as `found = yield from finished(steps)`.
    """
    found: list[T] = []
    for step in steps:
        if isinstance(step, float):
            yield begin + (end - begin) * step
        else:
            found.append(step)
    (last,) = found
    return last
