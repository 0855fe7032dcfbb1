"""The calibration pass: second moments of what every consumer reads, and what refitting costs."""

from fpgm_core.calibration.block_obs import (Elimination, UnitLoss, greedy_order, readings, refit_cost, stand_in)
from fpgm_core.calibration.moments import (RIDGE, Calibration, Moment, Moments, batch_size, calibrate, calibrate_steps, consumers, with_ridge)

__all__ = [
    "RIDGE",
    "Calibration",
    "Elimination",
    "Moment",
    "Moments",
    "UnitLoss",
    "batch_size",
    "calibrate",
    "calibrate_steps",
    "consumers",
    "greedy_order",
    "readings",
    "refit_cost",
    "stand_in",
    "with_ridge",
]
