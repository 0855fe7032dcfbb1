"""The recovery ladder's rungs below training: merged, recalibrated, repaired; and the calibration pass."""

from fpgm_core.repair.chain import Batch, Chain, Memory, memory
from fpgm_core.repair.merging import Twins, merged_tensors, twins
from fpgm_core.repair.moments import Calibration, Moment, Moments, calibrate, calibrate_steps, consumers, with_ridge
from fpgm_core.repair.obs import Elimination, Reading, UnitLoss, greedy_order, readings, refit_cost, stand_in
from fpgm_core.repair.recalibration import BATCH, FIRST_IMAGES, IMAGES, norms_of, recalibrate
from fpgm_core.repair.refit import RIDGE, images_that_fit, refit_steps
from fpgm_core.repair.rungs import (
    REPAIR,
    RUNGS,
    WATCHED,
    Mended,
    Rung,
    get_rung,
    mended_steps,
    mends,
    merge,
    repair,
    repair_steps,
)
from fpgm_core.repair.scores import bn_scales, provide, provide_steps, refit_cost_steps, taylor_steps
from fpgm_core.repair.surface import SURFACE_RATES, Surface, surface, surface_steps

__all__ = [
    "BATCH",
    "FIRST_IMAGES",
    "IMAGES",
    "REPAIR",
    "RIDGE",
    "RUNGS",
    "SURFACE_RATES",
    "WATCHED",
    "Batch",
    "Calibration",
    "Chain",
    "Elimination",
    "Memory",
    "Mended",
    "Moment",
    "Moments",
    "Reading",
    "Rung",
    "Surface",
    "Twins",
    "UnitLoss",
    "bn_scales",
    "calibrate",
    "calibrate_steps",
    "consumers",
    "get_rung",
    "greedy_order",
    "images_that_fit",
    "memory",
    "mended_steps",
    "mends",
    "merge",
    "merged_tensors",
    "norms_of",
    "provide",
    "provide_steps",
    "readings",
    "recalibrate",
    "refit_cost",
    "refit_cost_steps",
    "refit_steps",
    "repair",
    "repair_steps",
    "stand_in",
    "surface",
    "surface_steps",
    "taylor_steps",
    "twins",
    "with_ridge",
]
