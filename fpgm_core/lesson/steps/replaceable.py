"""Step 6: g against measured refit cost, and one filter's loss before and after the others stand in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fpgm_core.calibration import stand_in
from fpgm_core.criteria import geometric_median
from fpgm_core.evaluation import Replaceability, premise
from fpgm_core.figures import lesson as figures
from fpgm_core.graph import weights_of
from fpgm_core.lesson.content import Picture, StepContext, StepView
from fpgm_core.lesson.controls import FilterControls
from fpgm_core.lesson.layers import choose_filter, choose_layer
from fpgm_core.lesson.words import Words
from fpgm_core.pruning import Network


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
    def made_good(self) -> float:
        """The share of the chosen filter's loss that the others make good."""
        lost = self.alone[self.chosen]
        return 1 - float(self.refitted[self.chosen] / lost) if lost > 0 else 0.0


def show_replaceable(context: StepContext, controls: FilterControls) -> StepView:
    """Every filter of a layer, g against refit cost, and what the chosen one's readers lose; empty if unmeasured."""
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
    pictures = [_scatter_picture(removal, words)]
    if context.revealed:
        pictures.append(_bars_picture(removal, words))
    conclusion = (*_layer_says(removal, words), *_network_says(layers, network, words=words))
    good = removal.made_good
    answer = "quarter" if good <= 0.25 else "half" if good < 0.75 else "most"
    return StepView(tuple(pictures), conclusion, answer, FilterControls(name, chosen), offered)


def _scatter_picture(removal: _Removal, words: Words) -> Picture:
    layer = removal.layer
    figure = figures.stand_in_figure(
        layer.distance_sums,
        removal.refitted,
        chosen=removal.chosen,
        nearest=removal.nearest,
        smallest=removal.smallest,
        words=words,
    )
    table = {
        words("table.filter"): list(range(len(removal.alone))),
        words("table.g"): layer.distance_sums.tolist(),
        words("table.norm"): layer.norms.tolist(),
        words("table.alone"): removal.alone.tolist(),
        words("table.refitted"): removal.refitted.tolist(),
    }
    return Picture("scatter", figure, words("replaceable.scatter", layer=layer.layer), table)


def _bars_picture(removal: _Removal, words: Words) -> Picture:
    bars = {
        words("figure.alone"): float(removal.alone[removal.chosen]),
        words("figure.refitted"): float(removal.refitted[removal.chosen]),
    }
    figure = figures.bars_figure(bars, axis=words("figure.share_lost"), number_format=".2%")
    return Picture("bars", figure, words("replaceable.bars", chosen=removal.chosen))


def _layer_says(removal: _Removal, words: Words) -> list[str]:
    layer, chosen, refitted = removal.layer, removal.chosen, removal.refitted
    rank = np.argsort(np.argsort(refitted, kind="stable"), kind="stable") + 1
    rho = layer.by_distance
    sentences = [
        words("replaceable.lost", chosen=chosen, layer=layer.layer, alone=float(removal.alone[chosen]),
              refitted=float(refitted[chosen]), made_good=removal.made_good),
        words("replaceable.ranks", cheapest=int(refitted.argmin()), nearest_rank=int(rank[removal.nearest]),
              count=len(rank), smallest_rank=int(rank[removal.smallest])),
        words(f"replaceable.{premise(rho)}", rho=rho.told()) if rho else words("replaceable.few"),
    ]  # fmt: skip
    if layer.by_norm:
        sentences.append(words("replaceable.norm", rho=layer.by_norm.told()))
    return sentences


def _network_says(layers: Sequence[Replaceability], network: Network, *, words: Words) -> list[str]:
    known = {layer.layer: layer.by_distance for layer in layers if layer.by_distance is not None}
    if not known:
        return []
    verdicts = [premise(rho) for rho in known.values()]
    counts = {kind: verdicts.count(kind) for kind in ("holds", "undecided", "reversed")}
    weakest = min(known, key=lambda layer: known[layer].value)
    return [words("replaceable.network", network=network.title, count=len(known), weakest=weakest,
                  rho=known[weakest].told(), **counts)]  # fmt: skip
