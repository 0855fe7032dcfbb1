"""The toy plane: filters as 2-D points that a person drags and marks. What the browser sends is checked here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeGuard

from fpgm_core.lesson.controls import EXTENT, MAX_FILTERS, MAX_MARKED, MIN_FILTERS
from pages.ui.components.element import element

_component = element("plane")


@dataclass(frozen=True)
class PlaneMove:
    """One message from the browser: where the points are, which are marked (oldest first), and whether it rests."""

    seq: int
    points: tuple[tuple[float, float], ...]
    marked: tuple[int, ...]
    rest: bool


@dataclass(frozen=True)
class Plane:
    """What the server knows of the points, all of it drawn: the browser computes nothing but places on the screen.

    `rings` are radii of circles about the origin, `cut` that of the dashed one inside which a norm prunes;
    `by_norm` and `by_distance` are the filters that each criterion would drop, shown where `revealed`.
    """

    points: tuple[tuple[float, float], ...]
    marked: tuple[int, ...]
    median: tuple[float, float]
    mean: tuple[float, float]
    medoid: int
    nearest: int
    rings: tuple[float, ...] = ()
    cut: float | None = None
    by_norm: tuple[int, ...] = ()
    by_distance: tuple[int, ...] = ()
    revealed: bool = False


def read_plane(message: Any) -> PlaneMove | None:
    """A browser's message, checked; None for anything that is not one (it is not to be trusted)."""
    if not isinstance(message, Mapping):
        return None
    seq, points, marked, phase = (message.get(name) for name in ("seq", "points", "marked", "phase"))
    if not _within(seq, 0, 2**53) or phase not in ("drag", "rest"):
        return None
    if not isinstance(points, list) or not MIN_FILTERS <= len(points) <= MAX_FILTERS or not all(map(_is_place, points)):
        return None
    if not isinstance(marked, list) or len(marked) > MAX_MARKED:
        return None
    if not all(isinstance(index, int) and _within(index, 0, len(points) - 1) for index in marked):
        return None
    if len(set(marked)) < len(marked):
        return None
    places = tuple((round(float(x), 2), round(float(y), 2)) for x, y in points)
    return PlaneMove(int(seq), places, tuple(marked), phase == "rest")


def _within(number: Any, low: float, high: float) -> TypeGuard[float]:
    """Whether it is a number in that range: NaN is not, nor an integer that no float can hold."""
    return isinstance(number, (int, float)) and not isinstance(number, bool) and low <= number <= high


def _is_place(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(_within(x, -EXTENT, EXTENT) for x in pair)


def plane(state: Plane, words: Mapping[str, str], revision: int, echo: int, key: str) -> None:
    """Draw the points and what is known of them.

    The browser adopts points and marks only when `revision` changes; `echo` answers its last message. `words`
    says all that is seen or spoken: `label`, `point` (of {n}, {x} and {y}), `median`, `mean`, `medoid`, `yours`,
    `norm`, `fpgm` and `hint`.
    """
    limits = {"extent": EXTENT, "most": MAX_FILTERS, "least": MIN_FILTERS, "marks": MAX_MARKED}
    _component(
        key=key,
        data={**asdict(state), **limits, "words": dict(words), "rev": revision, "echo": echo},
        on_move_change=lambda: None,
    )
