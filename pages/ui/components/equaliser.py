"""The equaliser: one bar a unit, dragged live. What the browser sends is checked here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pages.ui.components.element import element

_component = element("equaliser", "hand", "table")


@dataclass(frozen=True)
class Bar:
    """One unit as the equaliser shows it: `share` of the dense MACs, `pruned` of `size` filters at `rate`.

    Its locks leave room for rates from `low` to `high`; `kind` names its row in the table of counts. `agreement`
    says in words how far norm and FPGM agree on it; `damage` what its rate is predicted to cost, and `heat` what every
    rate is, as a CSS gradient (both empty where that is not known).
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


@dataclass(frozen=True)
class Move:
    """One message from the browser: rates by unit, the unit under the hand, and whether it rests."""

    seq: int
    rates: Mapping[str, float]
    chosen: str | None
    rest: bool


def read_move(message: Any, units: Sequence[str]) -> Move | None:
    """A browser's message, checked; None for anything that is not one (it is not to be trusted)."""
    if not isinstance(message, Mapping) or not isinstance(message.get("rates"), Mapping):
        return None
    seq = message.get("seq", 0)
    rates = {
        name: float(rate)
        for name, rate in message["rates"].items()
        if name in units and isinstance(rate, (int, float)) and not isinstance(rate, bool) and math.isfinite(rate)
    }
    if not isinstance(seq, (int, float)) or not all(0 <= rate <= 1 for rate in rates.values()):
        return None
    chosen = message.get("chosen")
    return Move(int(seq), rates, chosen if chosen in units else None, message.get("phase") != "drag")


def equaliser(
    bars: Sequence[Bar],
    *,
    counts: Mapping[str, Sequence[int]],
    chosen: str | None,
    session: str,
    revision: int,
    echo: int,
    poll: int,
    tick: object,
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
            "units": [asdict(bar) for bar in bars],
            "counts": {kind: list(row) for kind, row in counts.items()},
            "chosen": chosen,
            "session": session,
            "rev": f"{session}.{revision}",
            "echo": echo,
            "poll": poll,
            "asked": tick,
            "words": dict(words),
        },
        on_move_change=lambda: None,
        on_tick_change=lambda: None,
    )
