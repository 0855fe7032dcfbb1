"""What pages compute and keep for every session: all of it in the process's one budget of memory.

    @kept
    def layer_facts(fingerprint: str, layer: str, _network: Network) -> LayerFacts: ...

Arguments whose names begin with an underscore are no part of what a value goes by. Not `st.cache_resource`, which
counts values, not bytes: a hundred pictures of a large network's layers take a hundred times those of a small one.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Hashable, Mapping
from dataclasses import fields, is_dataclass
from functools import update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar

import numpy as np
import plotly.graph_objects as go
from torch import Tensor

from fpgm_core import Network
from fpgm_core.runtime.cache import Cache, size_of

P = ParamSpec("P")
T = TypeVar("T")
_NUMBER = 24  # bytes of one in a list, beside its place there


class Kept(Generic[P, T]):
    """A function whose values are kept; `clear` forgets those of some arguments, or all."""

    def __init__(self, function: Callable[P, T]) -> None:
        self._function, names = function, list(inspect.signature(function).parameters)
        self._count = next((at for at, name in enumerate(names) if name.startswith("_")), len(names))
        self._cache = Cache[tuple[T]](f"{function.__module__}.{function.__name__}", sizeof=whole_size)
        update_wrapper(self, function)

    def __call__(self, *arguments: P.args, **named: P.kwargs) -> T:
        """The function's value, from what is kept where it is."""
        if named:
            arguments = inspect.signature(self._function).bind(*arguments, **named).args  # type: ignore[assignment]
            named = {}  # type: ignore[assignment]
        (value,) = self._cache.get_or_make(
            arguments[: self._count],
            lambda: (self._function(*arguments, **named),),
        )
        return value

    def clear(self, *key: Hashable) -> None:
        """Forget the value of these arguments; without any, all values."""
        if key:
            self._cache.drop(key)
        else:
            self._cache.clear()


def kept(function: Callable[P, T]) -> Kept[P, T]:
    """The function with its values kept in the process's budget."""
    return Kept(function)


def whole_size(value: Any) -> int:
    """The bytes of a value: arrays as `size_of` counts them, and of lists and texts what they take as well.

    A network in it counts nothing: it is counted where it is kept.
    """
    size, pending, seen = 0, [value], set[int]()
    while pending:
        part = pending.pop()
        if isinstance(part, (bool, int, float)) or part is None:
            size += _NUMBER
        elif id(part) in seen or isinstance(part, Network):
            continue
        elif isinstance(part, (Tensor, np.ndarray)):
            size += size_of(part)
        elif isinstance(part, go.Figure):
            size += 2 * len(part.to_json())
        else:
            size += sys.getsizeof(part)
            pending.extend(_parts(part))
        seen.add(id(part))
    return size


def _parts(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)
    if is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name) for field in fields(value)]
    return []
