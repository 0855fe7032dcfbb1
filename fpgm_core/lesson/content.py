"""What a step of the lesson shows, and the records that steps are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fpgm_core.calibration import Moments
from fpgm_core.evaluation import Contest, Replaceability
from fpgm_core.lesson.controls import Controls
from fpgm_core.pruning import Network
from fpgm_core.runtime.words import Words
from fpgm_core.timing import Zeros


@dataclass(frozen=True, eq=False)
class Picture:
    """One figure of a step, a caption that also describes it, and the table behind it: columns by title."""

    name: str
    figure: Any
    caption: str
    table: Mapping[str, Sequence[Any]] | None = None


@dataclass(frozen=True, eq=False)
class StepView:
    """A step as it stands: its pictures, the sentences that follow from them, and the option that they prove right.

    `controls` are those it was shown with, the step's own choices filled in; `layers` are those that can be chosen.
    """

    pictures: tuple[Picture, ...] = ()
    conclusion: tuple[str, ...] = ()
    answer: str | None = None
    controls: Controls | None = None
    layers: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Evidence:
    """What has been measured of the network so far; None for what has not."""

    moments: Moments | None = None
    replaceability: tuple[Replaceability, ...] | None = None
    contest: Contest | None = None
    zeros: Zeros | None = None


@dataclass(frozen=True)
class StepContext:
    """What a step is shown with: the network, the words, what was measured, and whether the answer is revealed."""

    network: Network
    words: Words
    evidence: Evidence = Evidence()
    revealed: bool = True


@dataclass(frozen=True)
class Step:
    """One step: its name in the words, its controls, the function that shows it, and the options of its question.

    A step that `asks` has a question in the words; without options it is answered in the picture. `explained` says that
    the words have a reason, `why`, that is given with the answer. `needs` names the measurements that it reads;
    `minutes` is how long a class spends on it.
    """

    name: str
    controls: type[Controls]
    show: Callable[[StepContext, Any], StepView]
    options: tuple[str, ...] = ()
    asks: bool = True
    explained: bool = False
    needs: tuple[str, ...] = ()
    minutes: int = 3
