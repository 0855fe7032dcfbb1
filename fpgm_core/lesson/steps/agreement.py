"""Step 5: how far norm and FPGM agree, by dimension and centre, on toy clouds and on real layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from statistics import median

import numpy as np
import torch

from fpgm_core.criteria import CRITERIA
from fpgm_core.evaluation import Interval, rank_interval
from fpgm_core.figures import lesson as figures
from fpgm_core.lesson.agreements import LayerAgreement, layer_agreements
from fpgm_core.lesson.content import Picture, StepContext, StepView
from fpgm_core.lesson.controls import DIMENSIONS, AgreementControls
from fpgm_core.lesson.example import Example, real_example
from fpgm_core.lesson.toys import Agreement, agreements, cloud
from fpgm_core.pruning import Network
from fpgm_core.runtime.words import Words

_CENTRES = (0.0, 1.0, 4.0)  # curves that are always drawn

Agreements = Mapping[tuple[int, float], Agreement]  # by dimension and centre


def show_agreement(context: StepContext, controls: AgreementControls) -> StepView:
    """A toy cloud, rank correlation by dimension for several centres, where the real layers lie, and the real example.

    The example is a network with depthwise layers, trained on ImageNet, as it was measured.
    """
    words, network = context.words, context.network
    centres = sorted({*_CENTRES, controls.centre})
    toys = agreements(DIMENSIONS, centres)
    layers, example = layer_agreements(network), real_example()
    pictures = [_cloud_picture(controls, words)]
    if context.revealed:
        real = figures.layers_figure(_groups(layers, example, words=words), words)
        pictures += [
            _curves_picture(toys, controls, centres=centres, words=words),
            Picture(
                "real",
                real,
                words("agreement.real", example=example.network),
                _layer_table([*layers, *example.layers], words),
            ),
            _parted_picture(example, words),
        ]
    conclusion = (
        *_toys_say(toys, controls, words=words),
        *_layers_say(network, layers, words),
        *example_says(example, words),
    )
    gained = toys[DIMENSIONS[-1], controls.centre].mean - toys[DIMENSIONS[0], controls.centre].mean
    answer = "same" if abs(gained) < 0.01 else "more" if gained > 0 else "less"
    return StepView(tuple(pictures), conclusion, answer)


def _cloud_picture(controls: AgreementControls, words: Words) -> Picture:
    filters = torch.from_numpy(cloud(controls.dimension, controls.centre, seed=0))
    norms, sums = (CRITERIA[name].score(filters).numpy() for name in ("l2_norm", "fpgm"))
    return Picture("cloud", figures.cloud_figure(norms, sums, words=words), words("agreement.cloud"))


def _parted_picture(example: Example, words: Words) -> Picture:
    """Norm against g of every filter of the example's layer on which they part most."""
    parted = example.parted
    said = words("agreement.parted", network=example.network, layer=parted.layer, rho=parted.rho,
                 filters=len(example.norms), numbers=parted.dimension)  # fmt: skip
    return Picture("parted", figures.cloud_figure(example.norms, example.sums, words=words), said)


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


def _groups(
    layers: Sequence[LayerAgreement], example: Example, *, words: Words
) -> dict[str, list[tuple[str, int, float, float]]]:
    first, rest = layers[:1], layers[1:]
    name = example.network
    groups = {
        words("figure.others"): [layer.row for layer in rest if not layer.depthwise],
        words("figure.depthwise"): [layer.row for layer in rest if layer.depthwise],
        words("figure.first"): [layer.row for layer in first],
        words("figure.example_depthwise", network=name): [layer.row for layer in example.of_kind(True)],
        words("figure.example_others", network=name): [layer.row for layer in example.of_kind(False)],
    }
    return {name: rows for name, rows in groups.items() if rows}


def _layer_table(layers: Sequence[LayerAgreement], words: Words) -> dict[str, Sequence[object]]:
    return {
        words("table.layer"): [layer.layer for layer in layers],
        words("table.dimension"): [layer.dimension for layer in layers],
        words("table.centre"): [layer.centre for layer in layers],
        words("table.correlation"): [layer.rho for layer in layers],
    }


def _layers_say(network: Network, layers: Sequence[LayerAgreement], words: Words) -> list[str]:
    if not layers:
        return []
    low, high = (pick(layers, key=attrgetter("rho")) for pick in (min, max))
    lowest = words("agreement.network", network=network.title, low=low.rho, low_layer=low.layer,
                   low_numbers=low.dimension, high=high.rho, high_layer=high.layer,
                   high_numbers=high.dimension)  # fmt: skip
    return [lowest, *real_layers_say(network.title, layers, words)]


def example_says(example: Example, words: Words) -> list[str]:
    """How far norm and g agree on the example's depthwise layers and on its others, and whether they differ in that."""
    depthwise, others = (sorted(layer.rho for layer in example.of_kind(kind)) for kind in (True, False))
    told = words("agreement.example", network=example.network, depthwise=len(depthwise), low=depthwise[0],
                 high=depthwise[-1], median=median(depthwise), others=len(others), others_low=others[0],
                 others_median=median(others))  # fmt: skip
    return [told, *_depthwise_says(example.network, example.layers, words)]


def real_layers_say(network: str, layers: Sequence[LayerAgreement], words: Words) -> list[str]:
    """Whether a network's layers agree less far from the origin, and where they are depthwise: by intervals alone."""
    return [*_centres_say(layers, words), *_depthwise_says(network, layers, words)]


def _centres_say(layers: Sequence[LayerAgreement], words: Words) -> list[str]:
    found = rank_interval(np.array([layer.centre for layer in layers]), np.array([layer.rho for layer in layers]))
    return [words(f"agreement.centre_{_direction(found)}", rho=found.told())] if found else []


def _depthwise_says(network: str, layers: Sequence[LayerAgreement], words: Words) -> list[str]:
    depthwise = np.array([layer.depthwise for layer in layers])
    rhos = np.array([layer.rho for layer in layers])
    found = rank_interval(depthwise, rhos)
    if found is None:
        return []
    return [words(f"agreement.depthwise_{_direction(found)}", network=network,
                  depthwise=float(rhos[depthwise].mean()), others=float(rhos[~depthwise].mean()),
                  rho=found.told())]  # fmt: skip


def _direction(correlation: Interval) -> str:
    """Whether agreement is less, more or alike where the other quantity is larger."""
    return "alike" if not correlation.excludes_zero else "more" if correlation.value > 0 else "less"
