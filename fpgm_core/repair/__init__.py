"""The recovery ladder's rungs below training: merged, recalibrated, repaired; and the calibration pass."""

from fpgm_core.repair.chain import Batch, Chain, Memory, memory
from fpgm_core.repair.merging import Twins, merged_tensors, twins
from fpgm_core.repair.moments import Calibration, Moment, Moments, calibrate, calibrate_steps, consumers, with_ridge
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

__all__ = [
    "BATCH",
    "FIRST_IMAGES",
    "IMAGES",
    "REPAIR",
    "RIDGE",
    "RUNGS",
    "WATCHED",
    "Batch",
    "Calibration",
    "Chain",
    "Memory",
    "Mended",
    "Moment",
    "Moments",
    "Rung",
    "Twins",
    "calibrate",
    "calibrate_steps",
    "consumers",
    "get_rung",
    "images_that_fit",
    "memory",
    "mended_steps",
    "mends",
    "merge",
    "merged_tensors",
    "norms_of",
    "recalibrate",
    "refit_steps",
    "repair",
    "repair_steps",
    "twins",
    "with_ridge",
]
