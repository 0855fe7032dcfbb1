"""Step 8: where the paper's FLOPs come from, beside those that a plan really cuts."""

from __future__ import annotations

from fpgm_core.errors import FpgmError
from fpgm_core.figures import lesson as figures
from fpgm_core.graph import closed_form_cut
from fpgm_core.lesson.content import Picture, StepContext, StepView
from fpgm_core.lesson.controls import FlopsControls
from fpgm_core.lesson.layers import bundled_network
from fpgm_core.pruning import Network

# Share of FLOPs cut, percent, by network and rate, as printed: He et al., CVPR 2019, Table 1.
PRINTED = {
    "resnet20": {0.3: 42.2, 0.4: 54.0},
    "resnet32": {0.3: 41.5, 0.4: 53.2},
    "resnet56": {0.4: 52.6},
    "resnet110": {0.4: 52.3},
}
_FLOPS_NETWORK = "resnet20"  # stands in where the closed form does not hold
_RATES = tuple(round(0.05 * n, 2) for n in range(1, 15))
_ALIKE = 0.05  # between a share of the filters and one of the FLOPs that are about the same


def show_flops(context: StepContext, controls: FlopsControls) -> StepView:
    """The FLOPs cut in every convolution, by the closed form and counted, with the sentence for one rate."""
    words, rate, network = context.words, controls.rate, _with_closed_form(context.network)
    counted, closed_form = ([cut(network, each) for each in _RATES] for cut in (_counted_cut, _closed_cut))
    figure = figures.flops_figure(
        _RATES,
        counted=counted if context.revealed else (),
        closed_form=closed_form if context.revealed else (),
        printed=PRINTED.get(network.name, {}) if context.revealed else {},
        words=words,
    )
    table = {
        words("figure.rate"): list(_RATES),
        words("figure.closed_form"): closed_form,
        words("figure.counted"): counted,
    }
    caption = words("flops.curves" if context.revealed else "flops.covered", network=network.title)
    cut = _counted_cut(network, rate)
    sentence = words("flops.closed", network=network.title, rate=rate, closed=_closed_cut(network, rate), counted=cut)
    answer = "same" if abs(cut - rate) < _ALIKE else "more" if cut > rate else "less"
    return StepView((Picture("flops", figure, caption, table if context.revealed else None),), (sentence,), answer)


def _with_closed_form(network: Network) -> Network:
    """The network, or one that the paper gives a formula for where it gives none for this."""
    try:
        _closed_cut(network, _RATES[0])
    except FpgmError:
        return bundled_network(_FLOPS_NETWORK)
    return network


def _closed_cut(network: Network, rate: float) -> float:
    return closed_form_cut(network.flow, rate)


def _counted_cut(network: Network, rate: float) -> float:
    """The share of MACs that FPGM really cuts at one rate for every convolution."""
    return 1 - network.cost(network.plan(rate)).macs / network.dense_cost.macs
