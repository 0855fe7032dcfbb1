"""Step 2: the norm criterion's two requirements, on a toy layer and on the network's (paper 3.2, Fig. 2 and 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fpgm_core.figures import lesson as figures
from fpgm_core.lesson.content import Picture, StepContext, StepView
from fpgm_core.lesson.controls import NormControls
from fpgm_core.lesson.layers import LayerNorms, layer_norms
from fpgm_core.lesson.toys import IDEAL_DEVIATION, IDEAL_SMALLEST, ToyNorms, bell_curve, toy_norms
from fpgm_core.runtime.words import Words


def show_norms(context: StepContext, controls: NormControls) -> StepView:
    """The toy layer beside the ideal one; once revealed, every layer's requirements and norms."""
    words, network = context.words, context.network
    toy = toy_norms(controls.deviation, controls.smallest, rate=controls.rate)
    ideal = toy_norms(IDEAL_DEVIATION, IDEAL_SMALLEST, rate=controls.rate)
    layers = layer_norms(network)
    ratios = {name: layer.ratio(controls.rate) for name, layer in layers.items()}
    pictures = [_bells(controls, cuts=(ideal.cut, toy.cut), words=words)]
    if context.revealed:
        norms = {name: layer.norms for name, layer in layers.items()}
        pictures += [
            _requirements(layers, ratios, toy=toy, ideal=ideal, words=words),
            Picture("boxes", figures.layer_norms_figure(norms, words), words("norms.boxes")),
        ]
    low, high = min(ratios, key=ratios.__getitem__), max(ratios, key=ratios.__getitem__)
    worst = layers[high].diagnostics
    conclusion = (
        words("norms.here", rate=controls.rate, ratio=toy.ratio, ideal=ideal.ratio),
        words("norms.real", network=network.title, low=ratios[low], low_layer=low, high=ratios[high], high_layer=high),
        words("norms.fails", layer=high, floor=worst.floor, spread=worst.spread),
    )
    answer = "quarter" if toy.ratio < 0.375 else "half" if toy.ratio < 0.75 else "most"
    return StepView(tuple(pictures), conclusion, answer)


def _bells(controls: NormControls, *, cuts: tuple[float, float], words: Words) -> Picture:
    figure = figures.bells_figure(
        bell_curve(IDEAL_DEVIATION, IDEAL_SMALLEST),
        bell_curve(controls.deviation, controls.smallest),
        cuts=cuts,
        words=words,
    )
    return Picture("bells", figure, words("norms.bells"))


def _requirements(
    layers: Mapping[str, LayerNorms], ratios: Mapping[str, float], *, toy: ToyNorms, ideal: ToyNorms, words: Words
) -> Picture:
    diagnostics = {name: layer.diagnostics for name, layer in layers.items()}
    figure = figures.requirements_figure(
        {name: (layer.floor, layer.spread) for name, layer in diagnostics.items()},
        toy=(toy.floor, toy.spread),
        ideal=(ideal.floor, ideal.spread),
        words=words,
    )
    table: dict[str, Sequence[object]] = {
        words("table.layer"): list(layers),
        words("table.spread"): [layer.spread for layer in diagnostics.values()],
        words("table.floor"): [layer.floor for layer in diagnostics.values()],
        words("table.ratio"): list(ratios.values()),
    }
    return Picture("requirements", figure, words("norms.requirements"), table)
