"""The page's state: one immutable value, its history, and the link that carries it."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from dataclasses import dataclass, field, replace
from typing import Any

from fpgm_core import FpgmError, Plan
from fpgm_core.recovery import get_recovery_method

VIEWS = ("Scores", "Map", "Radial", "Norms", "Refit cost")
MAPS = ("UMAP", "PCA")
_LIMIT = 200_000
_SHOWN = ("layer", "chosen", "view", "mapping", "seed", "rung", "heat")


@dataclass(frozen=True)
class Look:
    """Everything the page shows that is not measured: the plan, and what is looked at.

    `layer` is the chosen convolution, `chosen` a filter of it or None; `view` one of VIEWS, `mapping` one
    of MAPS, `seed` the map's; `rung` the one of the recovery ladder's RECOVERY_METHODS that accuracy is measured on;
    `heat` whether the predicted damage is drawn beside the bars.
    """

    plan: Plan
    layer: str
    chosen: int | None = None
    view: str = "Scores"
    mapping: str = "UMAP"
    seed: int = 0
    rung: str = "recalibrated"
    heat: bool = False

    def __post_init__(self) -> None:
        for name, allowed in (("view", VIEWS), ("mapping", MAPS)):
            if getattr(self, name) not in allowed:
                raise FpgmError(f"{name} is {getattr(self, name)!r}, not one of {', '.join(allowed)}")
        if self.chosen is not None and (isinstance(self.chosen, bool) or not isinstance(self.chosen, int)):
            raise FpgmError(f"filter {self.chosen!r} is not a number")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed < 2**31:
            raise FpgmError(f"map seed {self.seed!r} is not a whole number from 0 to 2147483647")
        if not isinstance(self.layer, str) or not isinstance(self.heat, bool):
            raise FpgmError("layer or heat is not what it should be")
        get_recovery_method(self.rung)


def encode(look: Look) -> str:
    """A look as the text of a link: compressed JSON in URL-safe base64."""
    data: dict[str, Any] = {"plan": look.plan.to_dict()}
    data |= {name: getattr(look, name) for name in _SHOWN}
    packed = zlib.compress(json.dumps(data, separators=(",", ":")).encode(), 9)
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def decode(text: str) -> Look:
    """The look in a link's text. Raises FpgmError where the link is damaged or says what cannot be."""
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        unpacker = zlib.decompressobj()
        content = unpacker.decompress(packed, _LIMIT)  # bounded: a link is not to be trusted
        if not unpacker.eof:
            raise ValueError("cut short, or too long")
        data = json.loads(content)
        plan = data.pop("plan")
    except (ValueError, binascii.Error, zlib.error, KeyError, AttributeError, RecursionError) as error:
        raise FpgmError("the link is damaged, so it could not be opened; copy it again, whole") from error
    if set(data) != set(_SHOWN):
        raise FpgmError("the link was made by another version of this page; share it again from there")
    return Look(Plan.from_dict(plan), **data)


@dataclass(frozen=True)
class History:
    """The looks of a sitting, oldest first, and where in them the page stands."""

    looks: tuple[Look, ...]
    position: int = field(default=0)

    @property
    def now(self) -> Look:
        """The look on screen."""
        return self.looks[self.position]

    def push(self, look: Look, limit: int = 500) -> History:
        """The history after a move: a new step where the plan or the rung changed, else the same step seen anew."""
        same = (look.plan, look.rung) == (self.now.plan, self.now.rung)
        if same:
            return replace(self, looks=(*self.looks[: self.position], look, *self.looks[self.position + 1 :]))
        looks = (*self.looks[: self.position + 1], look)[-limit:]
        return History(looks, len(looks) - 1)

    def move(self, step: int) -> History:
        """Undo (-1) or redo (+1), as far as there is one."""
        return replace(self, position=min(max(self.position + step, 0), len(self.looks) - 1))

    @property
    def can_undo(self) -> bool:
        """Whether there is a step before this one."""
        return self.position > 0

    @property
    def can_redo(self) -> bool:
        """Whether there is a step after this one."""
        return self.position < len(self.looks) - 1
