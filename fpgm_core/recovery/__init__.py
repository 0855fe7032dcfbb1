"""The recovery ladder: what is done to a network after pruning."""

from fpgm_core.recovery.damage import SURFACE_RATES, DamageSurface, damage_steps, surface
from fpgm_core.recovery.merging import merged_tensors, twins
from fpgm_core.recovery.methods import (
    RECOVERY_METHODS,
    REPAIR,
    Mended,
    get_recovery_method,
    mended_steps,
    mends,
    merge,
    repair,
    repair_steps,
)
from fpgm_core.recovery.recalibration import BATCH, FIRST_IMAGES, IMAGES, batch_norms_of, recalibrate
from fpgm_core.recovery.refit import images_that_fit, refit_steps
from fpgm_core.recovery.scores import bn_scales, provide, provide_steps, refit_cost_steps, taylor_steps

__all__ = [
    "BATCH",
    "FIRST_IMAGES",
    "IMAGES",
    "RECOVERY_METHODS",
    "REPAIR",
    "SURFACE_RATES",
    "DamageSurface",
    "Mended",
    "batch_norms_of",
    "bn_scales",
    "damage_steps",
    "get_recovery_method",
    "images_that_fit",
    "mended_steps",
    "mends",
    "merge",
    "merged_tensors",
    "provide",
    "provide_steps",
    "recalibrate",
    "refit_cost_steps",
    "refit_steps",
    "repair",
    "repair_steps",
    "surface",
    "taylor_steps",
    "twins",
]
