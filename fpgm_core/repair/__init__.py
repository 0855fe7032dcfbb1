"""The recovery ladder's rungs below training: recalibration, and the calibration pass that closed forms begin with."""

from fpgm_core.repair.chain import Batch, Chain, Memory, memory
from fpgm_core.repair.moments import Calibration, Moment, Moments, calibrate, calibrate_steps, consumers, with_ridge
from fpgm_core.repair.recalibration import BATCH, FIRST_IMAGES, IMAGES, norms_of, recalibrate

__all__ = [
    "BATCH",
    "FIRST_IMAGES",
    "IMAGES",
    "Batch",
    "Calibration",
    "Chain",
    "Memory",
    "Moment",
    "Moments",
    "calibrate",
    "calibrate_steps",
    "consumers",
    "memory",
    "norms_of",
    "recalibrate",
    "with_ridge",
]
