"""Plans as points of accuracy against the MACs cut, on lines along which a hand rides.

Drawn as SVG by the project's own script, and not by Plotly, whose points cannot be dragged: each step of a ride is told
to the server, which moves the bars. What the browser sends is checked here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pages.ui.components.element import element
from pages.ui.components.incoming import one_of, part, reading, whole

_component = element("along", "scatter")


@dataclass(frozen=True)
class Mark:
    """One plan: its `number`, the MACs that it cuts and its accuracy with the interval's ends, in percent."""

    number: int
    x: float
    y: float
    low: float
    high: float
    label: str


@dataclass(frozen=True)
class Line:
    """Plans that belong together, by MACs cut; where not `joined` each stands by itself."""

    title: str
    colour: str
    symbol: str
    joined: bool
    marks: Sequence[Mark]


@dataclass(frozen=True)
class Ride:
    """One message from the browser: the plan under the hand, and whether it rests there."""

    seq: int
    number: int
    rest: bool


@reading
def read_ride(message: Any) -> Ride:
    """A browser's message, checked; None for anything that is not one (it is not to be trusted)."""
    rest = one_of(part(message, "phase"), ("drag", "rest")) == "rest"
    return Ride(whole(part(message, "seq")), whole(part(message, "number")), rest)


def along(
    lines: Sequence[Line],
    *,
    dense: float | None,
    current: int | None,
    session: str,
    echo: int,
    key: str,
    words: dict[str, str],
) -> None:
    """Draw the lines, and the `dense` network's accuracy in percent across them.

    `current` is the number of the plan on screen, which the browser adopts unless it has said something newer than
    `echo`, its last message, to this `session`. `words` say `label`, `nothing`, `x`, `y` and
    `dense`, what stands at its line.
    """
    _component(
        key=key,
        data={
            "lines": [asdict(line) for line in lines],
            "dense": dense,
            "current": current,
            "session": session,
            "echo": echo,
            "words": words,
        },
        on_ride_change=lambda: None,
    )
