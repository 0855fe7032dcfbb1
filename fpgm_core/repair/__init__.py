"""The recovery ladder's rungs below training: recalibration."""

from fpgm_core.repair.recalibration import BATCH, FIRST_IMAGES, IMAGES, norms_of, recalibrate

__all__ = ["BATCH", "FIRST_IMAGES", "IMAGES", "norms_of", "recalibrate"]
