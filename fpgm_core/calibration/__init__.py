"""The calibration pass: second moments of what every consumer reads, and what refitting costs."""

from fpgm_core.calibration.block_obs import Elimination, UnitLoss, greedy_order, readings, refit_cost, stand_in
from fpgm_core.calibration.moments import (
    RIDGE,
    CalibrationConfig,
    Moment,
    Moments,
    batch_size,
    calibrate,
    calibrate_work,
    consumers,
    prunable_layers,
    with_ridge,
)

__all__ = [
    "RIDGE",
    "CalibrationConfig",
    "Elimination",
    "Moment",
    "Moments",
    "UnitLoss",
    "batch_size",
    "calibrate",
    "calibrate_work",
    "consumers",
    "greedy_order",
    "prunable_layers",
    "readings",
    "refit_cost",
    "stand_in",
    "with_ridge",
]
