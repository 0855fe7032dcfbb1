"""Removing filters: channel flow, units, plans, masked networks, cost."""

from fpgm_core.pruning.compact import compact_module, folded_module
from fpgm_core.pruning.cost import Cost, LayerCost, closed_form_cut, count_cost, live_sources
from fpgm_core.pruning.flow import Flow, Norm, Site, is_in_place
from fpgm_core.pruning.masking import keep_tensors, masked_module, masked_tensors, overlay
from fpgm_core.pruning.plan import FORMAT_VERSION, Plan
from fpgm_core.pruning.presets import PRESETS, Preset, stage_of, stages
from fpgm_core.pruning.prunable import Prunable
from fpgm_core.pruning.segments import makes_anew, segments
from fpgm_core.pruning.tracing import trace_flow
from fpgm_core.pruning.units import COUPLINGS, Coupling, Unit, get_coupling, refusals, units
from fpgm_core.pruning.verification import Proof, counted_macs, randomised, verify, verify_steps

__all__ = [
    "COUPLINGS",
    "FORMAT_VERSION",
    "PRESETS",
    "Cost",
    "Coupling",
    "Flow",
    "LayerCost",
    "Norm",
    "Plan",
    "Preset",
    "Proof",
    "Prunable",
    "Site",
    "Unit",
    "closed_form_cut",
    "compact_module",
    "count_cost",
    "counted_macs",
    "folded_module",
    "get_coupling",
    "is_in_place",
    "keep_tensors",
    "live_sources",
    "makes_anew",
    "masked_module",
    "masked_tensors",
    "overlay",
    "randomised",
    "refusals",
    "segments",
    "stage_of",
    "stages",
    "trace_flow",
    "units",
    "verify",
    "verify_steps",
]
