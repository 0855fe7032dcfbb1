"""The toy plane: filters as 2-D points that a person drags and marks. What the browser sends is checked here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fpgm_core.lesson.controls import EXTENT, MAX_FILTERS, MAX_MARKED, MIN_FILTERS
from pages.ui.components.element import element
from pages.ui.components.incoming import Unfit, items, number, one_of, part, reading, whole

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


@reading
def read_plane(message: Any) -> PlaneMove:
    """A browser's message, checked; None for anything that is not one (it is not to be trusted)."""
    phase = one_of(part(message, "phase"), ("drag", "rest"))
    places = tuple(map(_place, items(part(message, "points"), MAX_FILTERS, MIN_FILTERS)))
    marked = tuple(_mark(index, len(places)) for index in items(part(message, "marked"), MAX_MARKED))
    if len(set(marked)) < len(marked):
        raise Unfit
    return PlaneMove(whole(part(message, "seq")), places, marked, phase == "rest")


def _place(pair: Any) -> tuple[float, float]:
    x, y = (round(number(x, -EXTENT, EXTENT), 2) for x in items(pair, 2, 2))
    return x, y


def _mark(index: Any, count: int) -> int:
    if not isinstance(index, int):
        raise Unfit
    return whole(index, 0, count - 1)


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
