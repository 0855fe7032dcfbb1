"""The channel-flow graph: tracing, units, costs, layers."""

from fpgm_core.graph.answers import with_plain_answer
from fpgm_core.graph.baking import bake_in
from fpgm_core.graph.cost import Cost, LayerCost, closed_form_cut, cost_of, count_cost, dense_cost, live_sources
from fpgm_core.graph.flow import BatchNormLayer, Flow, Value, WeightedLayer
from fpgm_core.graph.layers import Layer, dense_layers, layers_of, weights_of
from fpgm_core.graph.opening import opened
from fpgm_core.graph.operations import Operation, is_in_place, makes_anew, operation_of, register_op
from fpgm_core.graph.overlay import overlay
from fpgm_core.graph.rebuilder import Rebuilder
from fpgm_core.graph.settings import settings_of
from fpgm_core.graph.traced import TracedModule
from fpgm_core.graph.tracer import TRACE_SECONDS
from fpgm_core.graph.tracing import trace_flow
from fpgm_core.graph.units import COUPLINGS, Coupling, Unit, get_coupling, refusals, units

__all__ = [
    "COUPLINGS",
    "TRACE_SECONDS",
    "BatchNormLayer",
    "Cost",
    "Coupling",
    "Flow",
    "Layer",
    "LayerCost",
    "Operation",
    "Rebuilder",
    "TracedModule",
    "Unit",
    "Value",
    "WeightedLayer",
    "bake_in",
    "closed_form_cut",
    "cost_of",
    "count_cost",
    "dense_cost",
    "dense_layers",
    "get_coupling",
    "is_in_place",
    "layers_of",
    "live_sources",
    "makes_anew",
    "opened",
    "operation_of",
    "overlay",
    "refusals",
    "register_op",
    "settings_of",
    "trace_flow",
    "units",
    "weights_of",
    "with_plain_answer",
]
