"""The recovery ladder's rungs below training: recalibration."""

from fpgm_core.repair.chain import Batch, Chain, Memory, memory
from fpgm_core.repair.recalibration import BATCH, FIRST_IMAGES, IMAGES, norms_of, recalibrate

__all__ = ["BATCH", "FIRST_IMAGES", "IMAGES", "Batch", "Chain", "Memory", "memory", "norms_of", "recalibrate"]
