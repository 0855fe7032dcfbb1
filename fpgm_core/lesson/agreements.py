"""How far norm and FPGM agree on a network's layers, with what may explain it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from fpgm_core.graph import Layer, weights_of
from fpgm_core.lesson.layers import CPU, NETWORKS, layer_norms
from fpgm_core.pruning import Network
from fpgm_core.runtime.cores import each

_MIN_FILTERS = 5  # of a layer: fewer give no rank correlation worth a point


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


@lru_cache(maxsize=NETWORKS)
def layer_agreements(network: Network) -> tuple[LayerAgreement, ...]:
    """Every layer of a network on which norm and g can be ranked."""
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

    return tuple(known for known in each(agreement, network.layers, CPU) if known is not None)
