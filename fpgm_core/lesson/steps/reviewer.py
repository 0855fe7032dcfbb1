"""Step 4: g with and without the filter itself (Eq. 5 to 9), and what that does not prove (Eq. 3 and 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fpgm_core.criteria import geometric_median, medoid, pairwise_distances
from fpgm_core.figures import lesson as figures
from fpgm_core.graph import Layer, weights_of
from fpgm_core.lesson.content import Picture, StepContext, StepView
from fpgm_core.lesson.controls import FilterControls
from fpgm_core.lesson.layers import CPU, NETWORKS, choose_filter, choose_layer
from fpgm_core.lesson.toys import FOUR_POINTS, as_filters, count_differing_sets
from fpgm_core.pruning import Network
from fpgm_core.runtime.cores import each
from fpgm_core.runtime.words import Words

_RANDOM_SETS = 400


@dataclass(frozen=True, eq=False)
class DistanceSums:
    """A layer's g and g′, (N,) each: the sums of every filter's distances, with and without the one to itself."""

    g: np.ndarray
    g_prime: np.ndarray

    @staticmethod
    def of(distances: np.ndarray) -> DistanceSums:
        """The sums of distances (N, N)."""
        others = [np.delete(row, index).sum() for index, row in enumerate(distances)]
        return DistanceSums(distances.sum(1), np.array(others))

    @property
    def moved(self) -> int:
        """How many filters change places between the orders by g and by g′; sums equal but for rounding are ties."""
        by_g, by_g_prime = (np.argsort(np.round(sums, 9), kind="stable") for sums in (self.g, self.g_prime))
        return int((by_g != by_g_prime).sum())

    @property
    def answer(self) -> str:
        """The option of the step's question that is right: "none", "few" or "most"."""
        return "none" if not self.moved else "few" if self.moved <= len(self.g) / 2 else "most"


def show_reviewer(context: StepContext, controls: FilterControls) -> StepView:
    """g of one filter term by term, and four points where the medoid is not the filter nearest the median."""
    words, network = context.words, context.network
    offered = tuple(layer.name for layer in network.layers)
    layer = choose_layer(network, controls.layer, offered=offered)
    filters = weights_of(network.module, layer)
    distances = pairwise_distances(filters).cpu().numpy()
    sums, best = DistanceSums.of(distances), medoid(filters)
    chosen = choose_filter(layer, controls.filter, count=len(distances), default=best)
    central = central_filters(network)
    terms = figures.terms_figure(distances[chosen], chosen, words=words, own=context.revealed)
    caption = words("reviewer.terms" if context.revealed else "reviewer.terms_covered", chosen=chosen, layer=layer)
    pictures = [Picture("terms", terms, caption)]
    if context.revealed:
        pictures.append(_four_points_picture(_layer_table(offered, central, words=words), words))
    median = geometric_median(filters).value
    conclusion = (
        words("reviewer.same", chosen=chosen, g=sums.g[chosen], g_prime=sums.g_prime[chosen], moved=sums.moved,
              count=len(distances), difference=round(abs(float(sums.g[chosen] - sums.g_prime[chosen])), 9)),
        _four_points_sentence(words),
        words("reviewer.layers", differ=sum(nearest != best for nearest, best in central), count=len(central),
              sets=_RANDOM_SETS, network=network.title, toy=count_differing_sets(_RANDOM_SETS)),
        words("reviewer.bound", medoid=float(sums.g[best]), median=median,
              ratio=float(sums.g[best]) / median if median else 1.0),
    )  # fmt: skip
    return StepView(tuple(pictures), conclusion, sums.answer, FilterControls(layer, chosen), offered)


@lru_cache(maxsize=NETWORKS)
def central_filters(network: Network) -> list[tuple[int, int]]:
    """Of every layer the filter nearest the geometric median, and the medoid."""

    def central(layer: Layer) -> tuple[int, int]:
        filters = weights_of(network.module, layer.name)
        return geometric_median(filters).nearest, medoid(filters)

    return each(central, network.layers, CPU)


def _layer_table(
    layers: Sequence[str], central: Sequence[tuple[int, int]], *, words: Words
) -> dict[str, Sequence[object]]:
    return {
        words("table.layer"): layers,
        words("table.nearest"): [nearest for nearest, _ in central],
        words("table.medoid"): [best for _, best in central],
        words("table.same"): [words("table.yes" if nearest == best else "table.no") for nearest, best in central],
    }


def _four_points_picture(table: dict[str, Sequence[object]], words: Words) -> Picture:
    points = as_filters(FOUR_POINTS)
    median = geometric_median(points)
    x, y = median.point.tolist()
    figure = figures.four_points_figure(
        points.numpy(), median=(x, y), nearest=median.nearest, medoid=medoid(points), words=words
    )
    return Picture("four", figure, words("reviewer.four"), table)


def _four_points_sentence(words: Words) -> str:
    points = as_filters(FOUR_POINTS)
    median, best, sums = geometric_median(points), medoid(points), pairwise_distances(points).sum(1)
    return words("reviewer.four_said", near=FOUR_POINTS[median.nearest], best=FOUR_POINTS[best],
                 near_distance=float(median.distances[median.nearest]), best_sum=float(sums[best]),
                 near_sum=float(sums[median.nearest]))  # fmt: skip
