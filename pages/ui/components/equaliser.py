"""The equaliser: one bar a unit, dragged live. What the browser sends is checked here."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pages.ui.components.element import element
from pages.ui.components.incoming import mapping, number, part, reading, whole

_component = element("equaliser", "hand", "table")


@dataclass(frozen=True)
class Bar:
    """One unit as the equaliser shows it: `share` of the dense MACs, `pruned` of `size` filters at `rate`.

    Its locks leave room for rates from `low` to `high`; `kind` names its row in the table of counts. `agreement`
    says in words how far norm and FPGM agree on it; `damage` what its rate is predicted to cost, and `heat` what every
    rate is, as a CSS gradient (both empty where that is not known); `speed` what its count is worth in time, and
    `marks` the rates at which it is a bargain.
    """

    name: str
    label: str
    stage: str
    kind: str
    size: int
    rate: float
    low: float
    high: float
    pruned: int
    share: float
    members: int
    locks: bool
    agreement: str
    damage: str = ""
    heat: str = ""
    speed: str = ""
    marks: tuple[float, ...] = ()


@dataclass(frozen=True)
class Move:
    """One message from the browser: rates by unit, the unit under the hand, and whether it rests."""

    seq: int
    rates: Mapping[str, float]
    chosen: str | None
    rest: bool


@reading
def read_move(message: Any, units: Collection[str]) -> Move:
    """A browser's message, checked; None for anything that is not one. Units that are not here are passed over."""
    sent = mapping(part(message, "rates"))
    rates = {name: number(rate, 0, 1) for name, rate in sent.items() if name in units}
    chosen = part(message, "chosen")
    is_here = isinstance(chosen, str) and chosen in units
    return Move(whole(part(message, "seq")), rates, chosen if is_here else None, part(message, "phase") != "drag")


@reading
def read_tick(message: Any) -> int:
    """A poll's number; None for anything that is none."""
    return whole(message)


def equaliser(
    bars: Sequence[Bar],
    *,
    counts: Mapping[str, Sequence[int]],
    chosen: str | None,
    session: str,
    revision: int,
    echo: int,
    poll: int,
    tick: int | None,
    key: str,
    words: Mapping[str, str],
) -> None:
    """Draw the bars.

    `counts` has for each kind of bar how many filters every whole percent prunes: between two answers the browser
    counts by it. It adopts the bars' rates only when `revision` changes, or `session`, which names the tab to the
    server, and never those under a hand; `echo` answers its last message; with `poll` it polls again after so many
    milliseconds. `tick` is its last poll, which this answers. `words` are those of `live`.
    """
    _component(
        key=key,
        data={
            # Flat, so no asdict, which copies; no list: Streamlit would ask at every drag what data frame it is.
            "units": tuple(vars(bar) for bar in bars),
            "counts": {kind: list(row) for kind, row in counts.items()},
            "chosen": chosen,
            "session": session,
            "rev": f"{session}.{revision}",
            "echo": echo,
            "poll": poll,
            "asked": tick,
            "words": words,
        },
        on_move_change=lambda: None,
        on_tick_change=lambda: None,
    )
