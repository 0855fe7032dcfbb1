"""What the browser sends, checked: one place for the form and the bounds of every message.

A message comes from whoever holds a connection, so it may be anything that JSON can say. A reader asks for its parts
by what they must be; where one is not, the whole message counts as not sent.

    @reading
    def read_turn(message: Any) -> tuple[int, int]:
        return whole(part(message, "seq")), one_of(part(message, "by"), (1, -1))
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Container, Mapping
from typing import Any, ParamSpec, TypeVar

import streamlit as st

P = ParamSpec("P")
T = TypeVar("T")

LARGEST = 2**53  # beyond it a browser's numbers are not whole
MOST_ENTRIES = 4096  # of a mapping or a list: no network has as many units
LONGEST_TEXT = 512
_MOST_CLICKED = 8  # numbers that a point of a chart carries


class Unfit(Exception):
    """A part of a message is not what it must be."""


def reading(read: Callable[P, T]) -> Callable[P, T | None]:
    """A reader of messages that gives None for one that has an unfit part."""

    @functools.wraps(read)
    def read_or_none(*arguments: P.args, **options: P.kwargs) -> T | None:
        try:
            return read(*arguments, **options)
        except Unfit:
            return None

    return read_or_none


def sent(element: str, name: str) -> Any:
    """The part of that name of what a page's element last sent; None where there is none."""
    state = st.session_state.get(element)
    return state.get(name) if isinstance(state, Mapping) else None


def mapping(value: Any, most: int = MOST_ENTRIES) -> Mapping[str, Any]:
    """A JSON object of at most `most` entries."""
    if not isinstance(value, Mapping) or len(value) > most:
        raise Unfit
    return value


def part(message: Any, name: str) -> Any:
    """One field of a message, None where it has none."""
    return mapping(message).get(name)


def items(value: Any, most: int = MOST_ENTRIES, least: int = 0) -> list[Any]:
    """A list of so many values."""
    if not isinstance(value, list) or not least <= len(value) <= most:
        raise Unfit
    return value


def number(value: Any, low: float, high: float) -> float:
    """A number in a range: NaN is not, nor an infinity, nor an integer that no float can hold."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise Unfit
    if not low <= value <= high or abs(value) > sys.float_info.max:
        raise Unfit
    return float(value)


def whole(value: Any, low: int = 0, high: int = LARGEST) -> int:
    """A whole number in a range; browsers send 3 as 3 or as 3.0."""
    found = number(value, low, high)
    if not found.is_integer():
        raise Unfit
    return int(found)


def text(value: Any, most: int = LONGEST_TEXT) -> str:
    """A text of at most so many characters."""
    if not isinstance(value, str) or len(value) > most:
        raise Unfit
    return value


def one_of(value: Any, allowed: Container[T]) -> T:
    """One of some values; True is not 1."""
    if isinstance(value, (bool, dict, list)) or value not in allowed:  # what a dict or a list is in may be a set
        raise Unfit
    found: T = value
    return found


@reading
def read_point(points: Any) -> list[float]:
    """The numbers that the first clicked point of a chart carries: a list, or a mapping of indices to numbers."""
    carried = part(items(points, least=1)[0], "customdata")
    if isinstance(carried, Mapping):
        entries = mapping(carried, _MOST_CLICKED)
        carried = [entries[key] for key in sorted(entries, key=_index)]
    if not isinstance(carried, (list, tuple)):
        carried = [carried]
    return [number(value, -math.inf, math.inf) for value in items(list(carried), _MOST_CLICKED, least=1)]


@reading
def read_rows(selection: Any, count: int) -> list[int]:
    """The rows that are selected in a table of `count`."""
    return [whole(row, 0, count - 1) for row in items(part(selection, "rows"))]


def _index(key: str) -> int:
    if not (key.isascii() and key.isdigit() and len(key) < 10):
        raise Unfit
    return int(key)
