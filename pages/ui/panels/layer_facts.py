"""What is computed once of each layer's filters: exact figures, projections, stored layouts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import streamlit as st

from fpgm_core import CRITERIA, Network
from fpgm_core.criteria import Projection, geometric_median, medoid, pairwise_distances, pca, radial
from fpgm_core.criteria.layouts import known_layout
from fpgm_core.graph import weights_of


@dataclass(frozen=True, eq=False)
class LayerFacts:
    """What is true of a layer's N filters whatever the plan: computed once, shared by every session.

    `norms`, `sums` (g, the sum of distances to all filters) and `to_median` are (N,), `distances` (N, N); `medoid` and
    `nearest` (to the geometric median) are filters.
    """

    norms: np.ndarray
    sums: np.ndarray
    to_median: np.ndarray
    distances: np.ndarray
    medoid: int
    nearest: int

    def twin(self, index: int) -> int | None:
        """The filter nearest to one of them; None where there is no other."""
        others = self.distances[index].copy()
        others[index] = np.inf
        return int(others.argmin()) if len(others) > 1 else None


@st.cache_resource(max_entries=512, show_spinner=False)
def layer_facts(fingerprint: str, layer: str, _network: Network) -> LayerFacts:
    """The exact figures of a layer's filters."""
    weights = weights_of(_network.module, layer)
    median = geometric_median(weights)
    return LayerFacts(
        CRITERIA["l2_norm"].score(weights).numpy(),
        CRITERIA["fpgm"].score(weights).numpy(),
        median.distances.numpy(),
        pairwise_distances(weights).numpy(),
        medoid(weights),
        median.nearest,
    )


@st.cache_resource(max_entries=512, show_spinner=False)
def exact_projection(fingerprint: str, layer: str, method: str, _network: Network) -> Projection:
    """The PCA or radial picture of a layer."""
    return {"pca": pca, "radial": radial}[method](weights_of(_network.module, layer))


@st.cache_resource(max_entries=512, show_spinner=False)
def stored_layout(fingerprint: str, layer: str, seed: int, _network: Network) -> Projection | None:
    """The UMAP of a layer where it was computed in an earlier session, or ships with the network."""
    return known_layout(fingerprint, layer, weights_of(_network.module, layer), seed)
