"""What a step of the lesson shows, and the records that steps are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fpgm_core.calibration import Moments
from fpgm_core.evaluation import Contest, Replaceability, Zeros
from fpgm_core.lesson.controls import Controls
from fpgm_core.lesson.words import Words
from fpgm_core.pruning import Network


@dataclass(frozen=True, eq=False)
class Picture:
    """One figure of a step with a caption that is also its description, and the table behind it, by column."""

    name: str
    figure: Any
    caption: str
    table: Mapping[str, Sequence[Any]] | None = None


@dataclass(frozen=True, eq=False)
class Shown:
    """A step as it stands: pictures, the sentences that follow from them, and which of its options they prove right.

    `controls` are those it was shown with, the step's own choices made; `offered` the layers that can be chosen.
    """

    pictures: tuple[Picture, ...]
    conclusion: tuple[str, ...] = ()
    answer: str | None = None
    controls: Controls | None = None
    offered: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Found:
    """What has been measured of the network so far; None where it was not, yet."""

    moments: Moments | None = None
    replaceability: tuple[Replaceability, ...] | None = None
    contest: Contest | None = None
    zeros: Zeros | None = None


@dataclass(frozen=True)
class Scene:
    """What a step is shown with: the network, the words, what was measured, and whether the answer is out."""

    network: Network
    words: Words
    found: Found = Found()
    revealed: bool = True


@dataclass(frozen=True)
class Step:
    """One step: its name in the words, its controls, what it shows, and the options of its question.

    `needs` names the measurements that it reads; `minutes` is how long a class takes over it.
    """

    name: str
    controls: type[Controls]
    show: Callable[[Scene, Any], Shown]
    options: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    minutes: int = 3
