"""The channel-flow graph: tracing, units, costs, layers."""

from fpgm_core.graph.cost import (Cost, closed_form_cut, count_cost, live_sources)
from fpgm_core.graph.flow import (Flow, WeightedLayer, is_in_place)
from fpgm_core.graph.layers import (Layer, dense_layers, weights_of)
from fpgm_core.graph.overlay import (overlay)
from fpgm_core.graph.traced import (TracedModule)
from fpgm_core.graph.tracing import (trace_flow)
from fpgm_core.graph.units import (COUPLINGS, Unit, get_coupling, refusals, units)

__all__ = [
    "COUPLINGS",
    "Cost",
    "Flow",
    "Layer",
    "TracedModule",
    "Unit",
    "WeightedLayer",
    "closed_form_cut",
    "count_cost",
    "dense_layers",
    "get_coupling",
    "is_in_place",
    "live_sources",
    "overlay",
    "refusals",
    "trace_flow",
    "units",
    "weights_of",
]
