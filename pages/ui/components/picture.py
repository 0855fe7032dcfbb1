"""The chosen layer as a picture: its filters, coloured by what the bars prune, and one of them beside its twin.

Drawn as SVG by the project's own script: what a bar changes is the class of a few points, in the same frame, and
neither the server nor the chart's other parts are asked. What the browser sends is checked here.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from pages.ui.components.element import element
from pages.ui.components.incoming import items, one_of, part, reading, text, whole

NO_NUMBER = -128
_component = element("picture", "hand", "scatter", "views", "side")


@dataclass(frozen=True)
class Panel:
    """One chart of a view: where each of the N filters lies, and what is drawn beside them.

    `median` is the geometric median's place, `ties` the filters that a line joins to it; `square` keeps both axes on
    one scale; `log` says that `y` is drawn on a logarithmic one. `rings` are radii about the origin. `cuts` says by
    axis whose cut ("own", "rival") is a line across it, drawn only while all that is pruned lies on one side of it.
    `marks` are horizontal lines (height, words); `others` points of other layers (x, y, name), `here` this layer's
    among them: a panel has them or filters. `note` stands in a corner.
    """

    x: Sequence[float] = ()
    y: Sequence[float] = ()
    x_title: str = ""
    y_title: str = ""
    median: tuple[float, float] | None = None
    ties: Sequence[int] = ()
    square: bool = False
    log: bool = False
    rings: Sequence[float] = ()
    cuts: Mapping[str, str] = field(default_factory=dict)
    marks: Sequence[tuple[float, str]] = ()
    others: Sequence[tuple[float, float, str]] = ()
    here: int = -1
    note: str = ""


@dataclass(frozen=True)
class View:
    """One way to look at the layer: its panels, left to right, and the caption below them."""

    panels: Sequence[Panel] = ()
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """What is drawn of a layer of N filters whatever its rate: sent once, and again only where it changes.

    `unit` is what its bar is called, "" where no bar moves the layer. `own` is the plan's criterion and `rival` what it
    is compared with, each a title and the percents at which every filter's state changes (see `RemovalOrder`), None
    where only the server can say what a rate prunes. `near` has every filter's nearest others, nearest first (see
    `packed`), `gaps` the distance to the first. `columns` are the figures of each filter by title.
    """

    layer: str
    layers: Sequence[str]
    unit: str
    own: tuple[str, Sequence[Sequence[int]] | None]
    rival: tuple[str, Sequence[Sequence[int]] | None]
    locked_in: Sequence[int]
    locked_out: Sequence[int]
    medoid: int
    nearest: int
    to_median: Sequence[float]
    near: str
    gaps: Sequence[float]
    columns: Mapping[str, Sequence[float]]
    views: Mapping[str, View]

    @cached_property
    def text(self) -> str:
        """It as JSON, made once: as values Streamlit would write it down anew, twice, at every step of a drag."""
        return json.dumps(asdict(self), separators=(",", ":"))


def packed(near: np.ndarray) -> str:
    """Numbers of filters (N, K), row by row, in base64: of one byte each up to 256 filters, else two, little-endian."""
    return base64.b64encode(near.astype(np.uint8 if len(near) <= 256 else "<u2").tobytes()).decode()


@dataclass(frozen=True)
class Cut:
    """What the plan's rate does: the filters that `own` and `rival` prune at `rate`. `facts` says what is true of it.

    `busy` says by view what is being waited for, where there is nothing to draw yet.
    """

    rate: float
    own: Sequence[int]
    rival: Sequence[int]
    facts: str
    busy: Mapping[str, str]


@dataclass(frozen=True)
class Tiles:
    """Filter `shown`'s kernels, its twin's and their difference, as bytes in base64: -127 to 127, or NO_NUMBER.

    127 stands for `limit`, one for the whole layer; a row has `columns` numbers. `ranks` are the filter's by criterion.
    """

    shown: int
    ranks: Sequence[tuple[str, int]]
    columns: int
    limit: float
    sheets: Sequence[str]


@dataclass(frozen=True)
class Look:
    """What is looked at, as the browser and the server tell each other: `locks` are those wanted, (filter, state)."""

    layer: str
    chosen: int | None
    view: str
    mapping: str
    seed: int
    seq: int = 0
    locks: tuple[tuple[int, str | None], ...] = ()


@reading
def read_look(message: Any) -> Look:
    """A browser's message, checked for form; None for anything that is not one (it is not to be trusted)."""
    layer, view, mapping = (text(part(message, name)) for name in ("layer", "view", "mapping"))
    chosen = part(message, "chosen")
    seq, seed = (whole(part(message, name)) for name in ("seq", "seed"))
    locks = tuple(map(_lock, items(part(message, "locks"))))
    return Look(layer, None if chosen is None else whole(chosen), view, mapping, seed, seq, locks)


def _lock(pair: Any) -> tuple[int, str | None]:
    index, state = items(pair, 2, 2)
    return whole(index), one_of(state, ("in", "out", None))


def picture(
    drawn: Picture, cut: Cut, look: Look, *, tiles: Tiles, session: str, key: str, words: Mapping[str, str]
) -> None:
    """Draw the layer.

    `look` is what is looked at, its `seq` the browser's last message: the browser adopts it unless it has said
    something newer to this `session`. `words` are those of `picture` in some language.
    """
    _component(
        key=key,
        data={
            "drawn": drawn.text,
            "cut": asdict(cut),
            "look": asdict(look),
            "tiles": asdict(tiles),
            "session": session,
            "words": dict(words),
        },
        on_look_change=lambda: None,
    )
