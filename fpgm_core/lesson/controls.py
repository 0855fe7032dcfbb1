"""What can be set on each step of the lesson: frozen values, checked, with a short form that links carry."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any

from fpgm_core.errors import FpgmError
from fpgm_core.lesson.toys import PLANES, Points
from fpgm_core.recovery import RECOVERY_METHODS

DIMENSIONS = (2, 4, 9, 16, 32, 64, 144, 288, 576)
HOME = 1.0  # where the median's outlier is at home
EXTENT = 4.0  # coordinates of the toy plane go so far
LEAST, MOST, MARKS = 4, 24, 3  # filters on it, and how many of them can be marked


def _between(default: float, low: float, high: float, step: float) -> Any:
    return field(default=default, metadata={"range": (low, high, step)})


def _one_of(default: Any, options: tuple[Any, ...]) -> Any:
    return field(default=default, metadata={"options": options})


@dataclass(frozen=True)
class Controls:
    """The base: every field with a `range` (low, high, step) or `options` in its metadata is held to them.

    Such fields are what a page draws as sliders and menus, in this order. Raises FpgmError for anything else.
    """

    def __post_init__(self) -> None:
        for one in fields(self):
            _check(one, getattr(self, one.name))


@dataclass(frozen=True)
class PlaneControls(Controls):
    """The toy plane: its filters, and up to three that the person would drop, the oldest choice first."""

    points: Points = PLANES["apart"]
    marked: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        try:
            points = tuple((round(float(x), 2), round(float(y), 2)) for x, y in self.points)
            marked = tuple(int(index) for index in self.marked)
        except (TypeError, ValueError, OverflowError) as error:
            raise FpgmError("the plane's filters are pairs of numbers, and those marked are their indices") from error
        if not LEAST <= len(points) <= MOST or not all(abs(value) <= EXTENT for one in points for value in one):
            raise FpgmError(f"the plane holds {LEAST} to {MOST} filters, within {EXTENT:g} of its middle")
        if len(set(marked)) < len(marked) or len(marked) > MARKS or not set(marked) <= set(range(len(points))):
            raise FpgmError(f"at most {MARKS} different filters of the plane can be marked")
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "marked", marked)


@dataclass(frozen=True)
class NormControls(Controls):
    """The toy layer of norms: their deviation, the smallest, and the rate that is cut."""

    deviation: float = _between(0.05, 0.01, 0.4, 0.01)
    smallest: float = _between(0.6, 0.0, 1.5, 0.05)
    rate: float = _between(0.4, 0.1, 0.7, 0.05)


@dataclass(frozen=True)
class MedianControls(Controls):
    """How far the outlier lies, and how many of Weiszfeld's steps are taken."""

    away: float = _between(5.0, HOME, 8.0, 0.5)
    taken: int = _between(3, 0, 20, 1)


@dataclass(frozen=True)
class FilterControls(Controls):
    """A layer of the network and a filter of it; "" and -1 are the step's own choice."""

    layer: str = ""
    filter: int = -1

    def __post_init__(self) -> None:
        if not isinstance(self.layer, str) or isinstance(self.filter, bool) or not isinstance(self.filter, int):
            raise FpgmError("a layer is chosen by its name, a filter by its number")


@dataclass(frozen=True)
class AgreementControls(Controls):
    """The toy cloud: numbers in a filter, and how far its centre lies from the origin."""

    dimension: int = _one_of(9, DIMENSIONS)
    centre: float = _between(1.5, 0.0, 4.0, 0.25)


@dataclass(frozen=True)
class CostControls(Controls):
    """The rung whose intervals are shown, and the rate whose FLOPs are counted."""

    rung: str = _one_of("recalibrated", tuple(RECOVERY_METHODS))
    rate: float = _between(0.4, 0.1, 0.7, 0.05)


@dataclass(frozen=True)
class NoControls(Controls):
    """Nothing of its own."""


def _check(one: Field[Any], value: Any) -> None:
    options = one.metadata.get("options")
    if options and not any(type(value) is type(option) and value == option for option in options):
        raise FpgmError(f"{one.name} is {value!r}, not one of {', '.join(map(str, options))}")
    if "range" in one.metadata:
        low, high, step = one.metadata["range"]
        whole = isinstance(step, int)
        fits = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        if not fits or not low <= value <= high:  # NaN is not, either
            raise FpgmError(f"{one.name} is {value!r}, not {'a whole number' if whole else 'a number'} {low} to {high}")


def pack(controls: Controls) -> str:
    """What is not as it comes, as short JSON; "" where all is."""
    changed = {
        one.name: getattr(controls, one.name) for one in fields(controls) if getattr(controls, one.name) != one.default
    }
    return json.dumps(changed, separators=(",", ":")) if changed else ""


def unpack(kind: type[Controls], text: str) -> Controls:
    """The controls that `pack` wrote. Raises FpgmError for a text that is damaged, or says what cannot be."""
    if not text:
        return kind()
    try:
        changed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FpgmError("the link's settings are damaged; open the step without them") from error
    known = {one.name for one in fields(kind)}
    if not isinstance(changed, Mapping) or not set(changed) <= known:
        raise FpgmError("the link's settings are of another step; open the step without them")
    return kind(**changed)
