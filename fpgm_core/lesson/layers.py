"""What several steps read from a network's layers, and which layer and filter they show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from fpgm_core.criteria import CRITERIA, NormDiagnostics, norm_diagnostics, num_pruned
from fpgm_core.errors import FpgmError
from fpgm_core.graph import Layer, weights_of
from fpgm_core.pruning import Network
from fpgm_core.runtime.cores import each

CPU = torch.device("cpu")
NETWORKS = 6  # whose layers are remembered at once: as many as the pages keep open


@lru_cache(maxsize=2)
def bundled_network(name: str) -> Network:
    """A network that stands in where the one on screen lacks what a picture needs; loaded once."""
    return Network.load(name)


@dataclass(frozen=True, eq=False)
class LayerNorms:
    """A layer's L2 norms (N,), and the paper's two requirements on them."""

    norms: np.ndarray
    diagnostics: NormDiagnostics

    def ratio(self, rate: float) -> float:
        """The mean norm of the filters pruned at a rate over that of the kept ones; 0 where none is pruned."""
        ascending, count = np.sort(self.norms), num_pruned(len(self.norms), rate)
        return float(ascending[:count].mean() / ascending[count:].mean()) if count else 0.0


@lru_cache(maxsize=NETWORKS)
def layer_norms(network: Network) -> Mapping[str, LayerNorms]:
    """Every layer's norms, by its name."""

    def norms(layer: Layer) -> LayerNorms:
        filters = weights_of(network.module, layer.name)
        return LayerNorms(CRITERIA["l2_norm"].score(filters).cpu().numpy(), norm_diagnostics(filters))

    return dict(zip((layer.name for layer in network.layers), each(norms, network.layers, CPU), strict=True))


def choose_layer(network: Network, wanted: str, *, offered: Sequence[str]) -> str:
    """The wanted layer; for "" the one on which norm and FPGM agree least.

    Raises FpgmError for a layer that is not offered.
    """
    if wanted and wanted not in offered:
        raise FpgmError(f"{network.name} offers no layer {wanted!r} here; choose one of its own")
    if wanted:
        return wanted
    agreement = {name: layer_norms(network)[name].diagnostics.spearman for name in offered}
    return min(offered, key=lambda name: (agreement[name] is None, agreement[name] or 0.0))


def choose_filter(layer: str, wanted: int, *, count: int, default: int) -> int:
    """The wanted filter of `count`, or `default` for -1. Raises FpgmError for one that the layer does not have."""
    if not -1 <= wanted < count:
        raise FpgmError(f"{layer} has no filter {wanted}; its filters are 0 to {count - 1}")
    return default if wanted == -1 else wanted
