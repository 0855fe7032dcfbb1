"""What a tab remembers of time: the machine that it asks about, and what predicts there."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from fpgm_core.allocation import Choices, Stairs
from fpgm_core.timing import Predictor

NOWHERE = ""


class Speed:
    """What one tab knows of time: `on` names the machine that is asked about, NOWHERE for none.

    `steps` says that presets and the master end on bargains. `boards` are those that were read here, what their times
    are of by name; `known` what predicts, by network, coupling and machine.
    """

    def __init__(self) -> None:
        self.on = NOWHERE
        self.steps = False
        self.boards: dict[str, Mapping[str, Any]] = {}
        self.known: dict[Hashable, Predictor | None] = {}
        self.stairs: tuple[Hashable, Mapping[str, Stairs]] = ((), {})
        self.choices: tuple[Hashable, Choices | None] = ((), None)
