"""What is on screen as one immutable value, and the link that carries it."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from dataclasses import dataclass
from functools import lru_cache

from fpgm_core import FpgmError, Plan
from fpgm_core.recovery import get_recovery_method

VIEWS = ("Map", "Scores", "Radial", "Norms", "Refit cost", "Replaceability")
MAPS = ("UMAP", "PCA")
_SIZE_LIMIT = 200_000
_LARGEST = 2**31 - 1
# Field -> its name in a link. Links are kept and shared: a name that is in one never changes.
_LINK_NAMES = {
    "layer": "layer",
    "chosen": "chosen",
    "view": "view",
    "mapping": "mapping",
    "seed": "seed",
    "method": "rung",
    "damage": "heat",
    "data": "data",
}
_OPTIONAL = {"data": ""}  # left out of a link where they are so, as in links made before there were any


@dataclass(frozen=True)
class ViewState:
    """Everything on screen that is not measured: the plan, and what is looked at.

    `layer` is the chosen convolution, `chosen` a filter of it or None; `view` one of VIEWS, `mapping` one of MAPS,
    `seed` the map's; `method` the recovery method whose accuracy is measured; `damage` whether the predicted damage
    is drawn beside the bars; `data` images that were opened here, "" for the network's own. Raises FpgmError for values
    that cannot be.
    """

    plan: Plan
    layer: str
    chosen: int | None = None
    view: str = "Map"
    mapping: str = "UMAP"
    seed: int = 0
    method: str = "recalibrated"
    damage: bool = False
    data: str = ""

    def __post_init__(self) -> None:
        for name, allowed in (("view", VIEWS), ("mapping", MAPS)):
            if getattr(self, name) not in allowed:
                raise FpgmError(f"{name} is {getattr(self, name)!r}, not one of {', '.join(allowed)}")
        if self.chosen is not None and not _is_number(self.chosen):
            raise FpgmError("a filter is chosen by its number")
        if not _is_number(self.seed):
            raise FpgmError(f"the map's seed is not a whole number from 0 to {_LARGEST}")
        if not all(isinstance(name, str) for name in (self.layer, self.data, self.method)):
            raise FpgmError("layer, data and rung must be names")
        if not isinstance(self.damage, bool):
            raise FpgmError("whether damage is drawn must be true or false")
        get_recovery_method(self.method)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST


@lru_cache(maxsize=256)  # a drag asks for the same link at every step
def encode(state: ViewState) -> str:
    """A view state as the text of a link: compressed JSON in URL-safe base64."""
    data = {"plan": state.plan.to_dict()} | {link: getattr(state, name) for name, link in _LINK_NAMES.items()}
    data = {link: value for link, value in data.items() if link not in _OPTIONAL or value != _OPTIONAL[link]}
    packed = zlib.compress(json.dumps(data, separators=(",", ":")).encode(), 9)
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def decode(text: str) -> ViewState:
    """The view state in a link's text. Raises FpgmError where the link is damaged or says what cannot be."""
    try:
        if len(text) > _SIZE_LIMIT:
            raise ValueError("too long")
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        unpacker = zlib.decompressobj()
        content = unpacker.decompress(packed, _SIZE_LIMIT)  # bounded: a link is not to be trusted
        if not unpacker.eof:
            raise ValueError("cut short, or too long")
        data = json.loads(content)
        plan = data.pop("plan")
    except (TypeError, ValueError, binascii.Error, zlib.error, KeyError, AttributeError, RecursionError) as error:
        raise FpgmError("the link is damaged and could not be opened; copy all of it again") from error
    data = _OPTIONAL | data
    if set(data) != set(_LINK_NAMES.values()):
        raise FpgmError("the link was made by another version of this page; share it again from there")
    return ViewState(Plan.from_dict(plan), **{name: data[link] for name, link in _LINK_NAMES.items()})
