"""Plans, pruned networks in their masked and compact forms, the proof that both are equal."""

from fpgm_core.pruning.compact import compact_module
from fpgm_core.pruning.masked import keep_tensors, masked_module, masked_tensors
from fpgm_core.pruning.network import Network
from fpgm_core.pruning.order import RemovalOrder, allowed_percents, pruned_counts, removal_order, removal_order_work
from fpgm_core.pruning.plan import FORMAT_VERSION, Plan
from fpgm_core.pruning.presets import PRESETS, Preset, stage_of, stages
from fpgm_core.pruning.proof import Proof, counted_macs, randomised, verify, verify_work
from fpgm_core.pruning.pruned import PrunedNetwork, RecoveryStep

__all__ = [
    "FORMAT_VERSION",
    "PRESETS",
    "Network",
    "Plan",
    "Preset",
    "Proof",
    "PrunedNetwork",
    "RecoveryStep",
    "RemovalOrder",
    "allowed_percents",
    "compact_module",
    "counted_macs",
    "keep_tensors",
    "masked_module",
    "masked_tensors",
    "pruned_counts",
    "randomised",
    "removal_order",
    "removal_order_work",
    "stage_of",
    "stages",
    "verify",
    "verify_work",
]
