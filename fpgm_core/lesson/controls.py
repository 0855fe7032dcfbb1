"""What can be set on each step of the lesson: frozen values, checked, with a short form that links carry."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, ClassVar

from fpgm_core.errors import FpgmError
from fpgm_core.lesson.toys import PLANES, Points
from fpgm_core.recovery import ladder

DIMENSIONS = (2, 4, 9, 16, 32, 64, 144, 288, 576)
OUTLIER_START = 1.0  # where the median's outlier lies to begin with
EXTENT = 4.0  # the largest coordinate on the toy plane, in absolute value
MIN_FILTERS, MAX_FILTERS = 4, 24  # on the plane
MAX_MARKED = 3
_LONGEST = 10_000  # characters of a link's settings: a plane full of filters has a tenth


def _between(default: float, *, low: float, high: float, step: float, after: bool = False) -> Any:
    return field(default=default, metadata={"range": (low, high, step), "after": after})


def _one_of(default: Any, options: tuple[Any, ...]) -> Any:
    return field(default=default, metadata={"options": options})


@dataclass(frozen=True)
class Controls:
    """The base: a field with a `range` (low, high, step) or `options` in its metadata takes no other values.

    Pages draw such fields as sliders and menus, in this order, those marked `after` once the step's answer is shown;
    links carry fields by their names, and may still carry those of `retired`, which are passed over. Raises FpgmError
    for a value that a field does not take.
    """

    retired: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        for control in fields(self):
            _check(control, getattr(self, control.name))


@dataclass(frozen=True)
class PlaneControls(Controls):
    """The toy plane: its filters, and up to three that the user would drop, the oldest choice first."""

    points: Points = PLANES["apart"]
    marked: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        try:
            points = tuple((round(float(x), 2), round(float(y), 2)) for x, y in self.points)
            marked = tuple(int(index) for index in self.marked)
        except (TypeError, ValueError, OverflowError) as error:
            raise FpgmError("the plane's filters are pairs of numbers, and those marked are their indices") from error
        inside = all(abs(value) <= EXTENT for point in points for value in point)  # NaN is not
        if not MIN_FILTERS <= len(points) <= MAX_FILTERS or not inside:
            raise FpgmError(f"the plane holds {MIN_FILTERS} to {MAX_FILTERS} filters, within {EXTENT:g} of its middle")
        if len(set(marked)) < len(marked) or len(marked) > MAX_MARKED or not set(marked) <= set(range(len(points))):
            raise FpgmError(f"at most {MAX_MARKED} different filters of the plane can be marked")
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "marked", marked)


@dataclass(frozen=True)
class NormControls(Controls):
    """The toy layer of norms: their deviation, the smallest, and the rate that is cut."""

    deviation: float = _between(0.05, low=0.01, high=0.4, step=0.01)
    smallest: float = _between(0.6, low=0.0, high=1.5, step=0.05)
    rate: float = _between(0.4, low=0.1, high=0.7, step=0.05)


@dataclass(frozen=True)
class MedianControls(Controls):
    """How far the outlier lies, and how many of Weiszfeld's steps are taken."""

    away: float = _between(5.0, low=OUTLIER_START, high=8.0, step=0.5)
    taken: int = _between(3, low=0, high=20, step=1, after=True)


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
    centre: float = _between(1.5, low=0.0, high=4.0, step=0.25)


@dataclass(frozen=True)
class CostControls(Controls):
    """The recovery whose intervals are shown (`rung` in links)."""

    retired = frozenset({"rate"})  # which is the next step's now

    rung: str = _one_of("recalibrated", ladder())


@dataclass(frozen=True)
class FlopsControls(Controls):
    """The rate whose FLOPs are counted."""

    rate: float = _between(0.4, low=0.1, high=0.7, step=0.05)


@dataclass(frozen=True)
class NoControls(Controls):
    """Nothing of its own."""


def _check(control: Field[Any], value: Any) -> None:
    options = control.metadata.get("options")
    if options and not any(type(value) is type(option) and value == option for option in options):
        raise FpgmError(f"{control.name} is {value!r}, not one of {', '.join(map(str, options))}")
    if "range" in control.metadata:
        low, high, step = control.metadata["range"]
        integer = isinstance(step, int)
        fits = isinstance(value, int if integer else (int, float)) and not isinstance(value, bool)
        if not fits or not low <= value <= high:  # NaN is not
            kind = "a whole number" if integer else "a number"
            raise FpgmError(f"{control.name} is {value!r}, not {kind} {low} to {high}")


def pack(controls: Controls) -> str:
    """The fields that differ from their defaults, as short JSON; "" where none does."""
    changed = {
        control.name: value
        for control in fields(controls)
        if (value := getattr(controls, control.name)) != control.default
    }
    return json.dumps(changed, separators=(",", ":")) if changed else ""


def unpack(kind: type[Controls], text: str) -> Controls:
    """The controls that `pack` wrote. Raises FpgmError for a text that is damaged, or holds values that do not fit."""
    if not text:
        return kind()
    try:
        if len(text) > _LONGEST:
            raise ValueError("too long")
        changed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FpgmError("the link's settings are damaged; open the step without them") from error
    names = {control.name for control in fields(kind)}
    if not isinstance(changed, Mapping) or not set(changed) <= names | kind.retired:
        raise FpgmError("the link's settings are of another step; open the step without them")
    return kind(**{name: value for name, value in changed.items() if name in names})
