"""Step 5: how far norm and FPGM agree, by dimension and centre, on toy clouds and on real layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter

import numpy as np
import torch

from fpgm_core.criteria import CRITERIA
from fpgm_core.evaluation import Interval, rank_interval
from fpgm_core.figures import lesson as figures
from fpgm_core.graph import Layer, weights_of
from fpgm_core.lesson.content import Picture, StepContext, StepView
from fpgm_core.lesson.controls import DIMENSIONS, AgreementControls
from fpgm_core.lesson.layers import CPU, NETWORKS, bundled_network, layer_norms
from fpgm_core.lesson.toys import Agreement, agreements, cloud
from fpgm_core.pruning import Network
from fpgm_core.runtime.cores import each
from fpgm_core.runtime.words import Words

_DEPTHWISE_NETWORK = "mobilenetv2_cifar"  # its depthwise layers stand in where a network has none
_MIN_FILTERS = 5  # of a layer: fewer give no rank correlation worth a point
_CENTRES = (0.0, 1.0, 4.0)  # curves that are always drawn

Agreements = Mapping[tuple[int, float], Agreement]  # by dimension and centre


@dataclass(frozen=True)
class LayerAgreement:
    """A real layer: numbers in a filter, distance of the centre from 0, and the rank correlation of norm and g.

    `centre` is in units of the filters' scatter, their root mean square distance from the centre.
    """

    layer: str
    dimension: int
    centre: float
    rho: float
    depthwise: bool

    @property
    def row(self) -> tuple[str, int, float, float]:
        """Layer, dimension, centre and rank correlation."""
        return self.layer, self.dimension, self.centre, self.rho


def show_agreement(context: StepContext, controls: AgreementControls) -> StepView:
    """A toy cloud, rank correlation by dimension for several centres, and where the real layers lie."""
    words, network = context.words, context.network
    centres = sorted({*_CENTRES, controls.centre})
    toys = agreements(DIMENSIONS, centres)
    layers, borrowed = _layer_agreements(network), list[LayerAgreement]()
    if not any(layer.depthwise for layer in layers) and network.name != _DEPTHWISE_NETWORK:
        borrowed = [layer for layer in _layer_agreements(bundled_network(_DEPTHWISE_NETWORK)) if layer.depthwise]
    pictures = [_cloud_picture(controls, words)]
    if context.revealed:
        real = figures.layers_figure(_groups(layers, borrowed, words=words), words)
        pictures += [
            _curves_picture(toys, controls, centres=centres, words=words),
            Picture("real", real, words("agreement.real"), _layer_table([*layers, *borrowed], words)),
        ]
    conclusion = (
        *_toys_say(toys, controls, words=words),
        *_layers_say(network, layers, borrowed=borrowed, words=words),
    )
    gained = toys[DIMENSIONS[-1], controls.centre].mean - toys[DIMENSIONS[0], controls.centre].mean
    answer = "same" if abs(gained) < 0.01 else "more" if gained > 0 else "less"
    return StepView(tuple(pictures), conclusion, answer)


def _cloud_picture(controls: AgreementControls, words: Words) -> Picture:
    filters = torch.from_numpy(cloud(controls.dimension, controls.centre, seed=0))
    norms, sums = (CRITERIA[name].score(filters).numpy() for name in ("l2_norm", "fpgm"))
    return Picture("cloud", figures.cloud_figure(norms, sums, words=words), words("agreement.cloud"))


def _curves_picture(
    toys: Agreements, controls: AgreementControls, *, centres: Sequence[float], words: Words
) -> Picture:
    def curve(centre: float) -> list[tuple[float, float, float]]:
        along = (toys[dimension, centre] for dimension in DIMENSIONS)
        return [(agreement.mean, agreement.low, agreement.high) for agreement in along]

    on_screen = toys[controls.dimension, controls.centre]
    figure = figures.dimensions_figure(
        DIMENSIONS,
        {centre: curve(centre) for centre in centres},
        on_screen=(controls.dimension, on_screen.mean),
        words=words,
    )
    return Picture("curves", figure, words("agreement.curves", seeds=on_screen.seeds))


def _toys_say(toys: Agreements, controls: AgreementControls, *, words: Words) -> list[str]:
    dimension, centre = controls.dimension, controls.centre
    on_screen = toys[dimension, centre]
    return [
        words("agreement.here", dimension=dimension, centre=centre, mean=on_screen.mean, low=on_screen.low,
              high=on_screen.high, seeds=on_screen.seeds),
        words("agreement.both", few=DIMENSIONS[0], many=DIMENSIONS[-1], from_few=toys[DIMENSIONS[0], centre].mean,
              to_many=toys[DIMENSIONS[-1], centre].mean, near=_CENTRES[0], far=_CENTRES[-1], dimension=dimension,
              from_near=toys[dimension, _CENTRES[0]].mean, to_far=toys[dimension, _CENTRES[-1]].mean),
    ]  # fmt: skip


@lru_cache(maxsize=NETWORKS)
def _layer_agreements(network: Network) -> list[LayerAgreement]:
    norms = layer_norms(network)  # not within `each`: that would wait for a core while holding one

    def agreement(layer: Layer) -> LayerAgreement | None:
        rho = norms[layer.name].diagnostics.spearman
        if rho is None or layer.filters < _MIN_FILTERS:
            return None
        filters = weights_of(network.module, layer.name).detach().double().flatten(1)
        centre = filters.mean(0)
        scatter = (filters - centre).square().sum(1).mean().sqrt()
        depthwise = layer.groups > 1 and layer.shape[1] == 1
        return LayerAgreement(layer.name, filters.shape[1], float(centre.norm() / scatter), rho, depthwise)

    return [known for known in each(agreement, network.layers, CPU) if known is not None]


def _groups(
    layers: Sequence[LayerAgreement], borrowed: Sequence[LayerAgreement], *, words: Words
) -> dict[str, list[tuple[str, int, float, float]]]:
    first, rest = layers[:1], layers[1:]
    groups = {
        words("figure.others"): [layer.row for layer in rest if not layer.depthwise],
        words("figure.depthwise"): [layer.row for layer in rest if layer.depthwise],
        words("figure.first"): [layer.row for layer in first],
    }
    if borrowed:
        title = bundled_network(_DEPTHWISE_NETWORK).title
        groups[words("figure.borrowed", network=title)] = [layer.row for layer in borrowed]
    return {name: rows for name, rows in groups.items() if rows}


def _layer_table(layers: Sequence[LayerAgreement], words: Words) -> dict[str, Sequence[object]]:
    return {
        words("table.layer"): [layer.layer for layer in layers],
        words("table.dimension"): [layer.dimension for layer in layers],
        words("table.centre"): [layer.centre for layer in layers],
        words("table.correlation"): [layer.rho for layer in layers],
    }


def _layers_say(
    network: Network, layers: Sequence[LayerAgreement], *, borrowed: Sequence[LayerAgreement], words: Words
) -> list[str]:
    if not layers:
        return []
    low, high = (pick(layers, key=attrgetter("rho")) for pick in (min, max))
    sentences = [words("agreement.network", network=network.title, low=low.rho, low_layer=low.layer,
                       low_numbers=low.dimension, high=high.rho, high_layer=high.layer,
                       high_numbers=high.dimension)]  # fmt: skip
    if borrowed:
        other = bundled_network(_DEPTHWISE_NETWORK).title
        sentences.append(words("agreement.borrowed", network=network.title, other=other))
    return [*sentences, *real_layers_say([*layers, *borrowed], words)]


def real_layers_say(layers: Sequence[LayerAgreement], words: Words) -> list[str]:
    """Whether real layers agree less far from the origin, and where they are depthwise: by intervals alone."""
    return [*_centres_say(layers, words), *_depthwise_says(layers, words)]


def _centres_say(layers: Sequence[LayerAgreement], words: Words) -> list[str]:
    found = rank_interval(np.array([layer.centre for layer in layers]), np.array([layer.rho for layer in layers]))
    return [words(f"agreement.centre_{_direction(found)}", rho=found.told())] if found else []


def _depthwise_says(layers: Sequence[LayerAgreement], words: Words) -> list[str]:
    depthwise = np.array([layer.depthwise for layer in layers])
    rhos = np.array([layer.rho for layer in layers])
    found = rank_interval(depthwise, rhos)
    if found is None:
        return []
    return [words(f"agreement.depthwise_{_direction(found)}", depthwise=float(rhos[depthwise].mean()),
                  others=float(rhos[~depthwise].mean()), rho=found.told())]  # fmt: skip


def _direction(correlation: Interval) -> str:
    """Whether agreement is less, more or alike where the other quantity is larger."""
    return "alike" if not correlation.excludes_zero else "more" if correlation.value > 0 else "less"
