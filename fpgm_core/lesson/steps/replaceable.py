"""Step 6: g against refit cost and against the share made good, and one filter's loss before and after the refit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fpgm_core.calibration import stand_in
from fpgm_core.criteria import geometric_median
from fpgm_core.evaluation import QUESTIONS, Interval, Replaceability, verdict_counts
from fpgm_core.figures import lesson as figures
from fpgm_core.graph import weights_of
from fpgm_core.lesson.content import Picture, StepContext, StepView
from fpgm_core.lesson.controls import FilterControls
from fpgm_core.lesson.layers import choose_filter, choose_layer
from fpgm_core.pruning import Network
from fpgm_core.runtime.words import Words


@dataclass(frozen=True, eq=False)
class _Removal:
    """A layer whose filters, (N,) each, are removed one at a time, and the filter that is chosen.

    `alone` and `refitted` are the shares of the readers' output variance that are lost, before and after the refit;
    `nearest` is the filter nearest the geometric median.
    """

    layer: Replaceability
    alone: np.ndarray
    refitted: np.ndarray
    nearest: int
    chosen: int

    @property
    def smallest(self) -> int:
        return int(self.layer.norms.argmin())

    @property
    def made_good(self) -> np.ndarray:
        """The share of each filter's loss that the others make good, (N,); 0 where there is nothing to make good."""
        return np.nan_to_num(self.layer.made_good)


def show_replaceable(context: StepContext, controls: FilterControls) -> StepView:
    """Every filter of a layer, g against both, and what the chosen one's readers lose; empty if unmeasured."""
    layers, moments = context.evidence.replaceability, context.evidence.moments
    if not layers or moments is None:
        return StepView()
    words, network = context.words, context.network
    offered = tuple(layer.layer for layer in layers)
    name = choose_layer(network, controls.layer, offered=offered)
    nearest = geometric_median(weights_of(network.module, name)).nearest
    alone, refitted = stand_in(network, name, moments=moments)
    chosen = choose_filter(name, controls.filter, count=len(alone), default=nearest)
    removal = _Removal(layers[offered.index(name)], alone, refitted, nearest, chosen)
    pictures = [_scatter_picture(removal, words, revealed=context.revealed)]
    if context.revealed:
        pictures += [_bars_picture(removal, words), _share_picture(removal, words)]
    conclusion = (*_filter_says(removal, words), *layer_says(removal.layer, words),
                  *network_says(layers, network, words=words))  # fmt: skip
    good = float(removal.made_good[chosen])
    answer = "quarter" if good <= 0.25 else "half" if good < 0.75 else "most"
    return StepView(tuple(pictures), conclusion, answer, FilterControls(name, chosen), offered)


def _scatter_picture(removal: _Removal, words: Words, *, revealed: bool) -> Picture:
    layer = removal.layer
    figure = figures.stand_in_figure(
        layer.distance_sums,
        removal.refitted,
        chosen=removal.chosen,
        nearest=removal.nearest,
        smallest=removal.smallest,
        words=words,
    )
    table: dict[str, Sequence[object]] = {
        words("table.filter"): list(range(len(removal.alone))),
        words("table.g"): layer.distance_sums.tolist(),
        words("table.norm"): layer.norms.tolist(),
        words("table.refitted"): removal.refitted.tolist(),
    }
    if revealed:
        table[words("table.alone")] = removal.alone.tolist()
        table[words("table.made_good")] = removal.made_good.tolist()
    return Picture("scatter", figure, words("replaceable.scatter", layer=layer.layer), table)


def _share_picture(removal: _Removal, words: Words) -> Picture:
    figure = figures.stand_in_figure(
        removal.layer.distance_sums,
        removal.made_good,
        chosen=removal.chosen,
        nearest=removal.nearest,
        smallest=removal.smallest,
        words=words,
        made_good=True,
    )
    return Picture("share", figure, words("replaceable.share", layer=removal.layer.layer))


def _bars_picture(removal: _Removal, words: Words) -> Picture:
    bars = {
        words("figure.alone"): float(removal.alone[removal.chosen]),
        words("figure.refitted"): float(removal.refitted[removal.chosen]),
    }
    figure = figures.bars_figure(bars, axis=words("figure.share_lost"), number_format=".2%")
    return Picture("bars", figure, words("replaceable.bars", chosen=removal.chosen))


def _filter_says(removal: _Removal, words: Words) -> list[str]:
    """What the chosen filter costs, and where the central and the small one stand by cost and by share."""
    chosen, good = removal.chosen, removal.made_good
    by_cost, by_share = _ranks(removal.refitted), _ranks(-good)
    return [
        words("replaceable.lost", chosen=chosen, layer=removal.layer.layer, alone=float(removal.alone[chosen]),
              refitted=float(removal.refitted[chosen]), made_good=float(good[chosen])),
        words("replaceable.ranks", cheapest=int(removal.refitted.argmin()), nearest_rank=int(by_cost[removal.nearest]),
              count=len(good), smallest_rank=int(by_cost[removal.smallest])),
        words("replaceable.ranks_good", best=int(good.argmax()), nearest_rank=int(by_share[removal.nearest]),
              count=len(good), smallest_rank=int(by_share[removal.smallest])),
    ]  # fmt: skip


def _ranks(values: np.ndarray) -> np.ndarray:
    """1 for the smallest of values (N,), and so on."""
    return np.argsort(np.argsort(values, kind="stable"), kind="stable") + 1


def layer_says(layer: Replaceability, words: Words) -> list[str]:
    """Each question's answer in this layer, and the norm's beside them."""
    sentences = []
    for name in QUESTIONS:
        finding = layer.by_distance[name]
        if finding.interval is None:
            return [words("replaceable.few")]
        sentences.append(words(f"replaceable.{name}_{finding.verdict}", rho=finding.interval.told()))
    cost, share = (layer.by_norm[name].interval for name in ("cheap", "replaceable"))
    return [*sentences, words("replaceable.norm", cost=_told(cost), share=_told(share))]


def _told(interval: Interval | None) -> str:
    return "–" if interval is None else interval.told()


def network_says(layers: Sequence[Replaceability], network: Network, *, words: Words) -> list[str]:
    """How often each question has which answer, and in how many layers the first two part."""
    sentences = []
    for name in QUESTIONS:
        counts = verdict_counts(layers, name)
        known = len(layers) - counts.pop("few")
        if not known:
            return []
        sentences.append(words(f"replaceable.network_{name}", network=network.title, count=known, **counts))
    parted = sum(layer.by_distance["cheap"].verdict != layer.by_distance["replaceable"].verdict for layer in layers)
    kind = "parted" if parted else "alike"
    return [*sentences, words(f"replaceable.{kind}", parted=parted, count=len(layers))]
