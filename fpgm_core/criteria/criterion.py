"""What a criterion is: a frozen record of its words, its options, what it needs, and how it scores filters."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields

import numpy as np
import torch
from torch import Tensor

from fpgm_core.criteria.rounding import num_pruned
from fpgm_core.data import ImageSet
from fpgm_core.errors import FpgmError
from fpgm_core.graph import TracedModule
from fpgm_core.runtime.progress import Work


@dataclass(frozen=True)
class SelectionOptions:
    """What a selection can be told beside its rate.

    `seed` is the random control's; `mix_share` the part of the rate that fpgm_mix prunes by norm (paper:
    10% of 40%, a quarter). `round_to` rounds the number of filters kept up to a multiple, as far as there
    are filters: hardware likes 8, 16 or 32. 1 leaves the count as the rate says.
    """

    seed: int = 0
    mix_share: float = 0.25
    round_to: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed < 2**32:
            raise FpgmError(f"seed {self.seed!r} is not a whole number from 0 to 4294967295")
        share = self.mix_share
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
            raise FpgmError(f"mix_share {share!r} is not a fraction from 0 to 1")
        multiple = self.round_to
        if isinstance(multiple, bool) or not isinstance(multiple, int) or not 1 <= multiple <= 1024:
            raise FpgmError(f"round_to {multiple!r} is not a whole number from 1 to 1024")


Scores = Mapping[str, np.ndarray]
"""Scores by layer, (N,) float64 each, higher = more important; a layer that cannot be scored is left out."""

WeightScorer = Callable[[Tensor, str, SelectionOptions], Tensor]
"""From one layer's filters (N, ...), its name and the options to scores (N,) float64, higher = more important."""

BatchNormScorer = Callable[[TracedModule], Scores]
"""From a network's batch norms to the scores of its layers."""

ImageScorer = Callable[[TracedModule, ImageSet, torch.device], Work[Scores]]
"""From a network and training images to the scores of its layers: work on a device."""


def _full_share(options: SelectionOptions) -> float:
    return 1.0


@dataclass(frozen=True)
class Stage:
    """One step of a selection: `score` ranks the filters, and the lowest are pruned until `share` of the rate is."""

    score: WeightScorer
    share: Callable[[SelectionOptions], float] = field(default_factory=lambda: _full_share)


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """One way to choose filters.

    `title`, `summary` (one sentence), `assumes` and `source` are shown in menus. `options` names the fields of
    `SelectionOptions` it reads. It scores filters in exactly one of three ways: from a layer's weights, in `stages`,
    of which a later one scores only the survivors of the earlier ones; from batch norms, by `score_batch_norms`; or
    from training images, by `score_images`.

    Raises FpgmError where none of the three, or more than one, is given, and for options that do not exist.
    """

    name: str
    title: str
    summary: str
    assumes: str = ""
    source: str = ""
    options: tuple[str, ...] = ()
    stages: tuple[Stage, ...] = ()
    score_batch_norms: BatchNormScorer | None = None
    score_images: ImageScorer | None = None

    def __post_init__(self) -> None:
        if [bool(self.stages), self.score_batch_norms is not None, self.score_images is not None].count(True) != 1:
            raise FpgmError(f"criterion {self.name!r}: give exactly one of stages, score_batch_norms and score_images")
        known = [option.name for option in fields(SelectionOptions)]
        unknown = next((name for name in self.options if name not in known), None)
        if unknown is not None:
            raise FpgmError(f"criterion {self.name!r} reads no option {unknown!r}; there are {', '.join(known)}")

    @property
    def needs(self) -> str:
        """What scores are made from: a layer's "weights", the network's "batch_norms", or training "images"."""
        return "weights" if self.stages else "batch_norms" if self.score_batch_norms else "images"

    def score(self, filters: Tensor, layer: str = "", options: SelectionOptions = SelectionOptions()) -> Tensor:
        """Scores (N,) float64 of filters (N, ...), higher = more important; a staged criterion's last stage.

        Raises FpgmError for a criterion that needs more than weights.
        """
        if not self.stages:
            raise FpgmError(
                f"{self.name} cannot be read off {layer or 'filters'} alone: it needs the network's "
                f"{self.needs.replace('_', ' ')}; see score_work, or choose another criterion"
            )
        return self.stages[-1].score(filters, layer, options)

    def shares(self, options: SelectionOptions = SelectionOptions()) -> tuple[float, ...]:
        """The share of the rate, 0..1, that each stage prunes; scores that are made elsewhere prune in one stage."""
        return tuple(stage.share(options) for stage in self.stages) or (1.0,)

    def counts(
        self, n: int, rate: float, *, options: SelectionOptions = SelectionOptions(), blocks: int = 1
    ) -> tuple[int, ...]:
        """How many filters each stage prunes of every one of `blocks` equal parts of `n` filters."""
        size, counts = n // blocks, list[int]()
        for share in self.shares(options):
            counts.append(min(num_pruned(size, rate * share), size - 1 - sum(counts)))
        multiple = options.round_to // math.gcd(options.round_to, blocks)
        kept = size - sum(counts)
        surplus = min(size, -(-kept // multiple) * multiple) - kept
        for stage in reversed(range(len(counts))):  # the last stages give way first
            spared = min(counts[stage], surplus)
            counts[stage], surplus = counts[stage] - spared, surplus - spared
        return tuple(counts)

    def count(self, n: int, rate: float, *, options: SelectionOptions = SelectionOptions(), blocks: int = 1) -> int:
        """How many of `n` filters are pruned at `rate`, all stages and blocks together."""
        return blocks * sum(self.counts(n, rate, options=options, blocks=blocks))
