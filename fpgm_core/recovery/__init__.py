"""The recovery ladder: what is done to a network after pruning."""

from fpgm_core.recovery.damage import SURFACE_RATES, DamageSurface, damage, damage_work
from fpgm_core.recovery.fine_tuned import FINE_TUNED
from fpgm_core.recovery.merged import merged_tensors, twins
from fpgm_core.recovery.method import RecoveryContext
from fpgm_core.recovery.recalibrated import BATCH, NUM_IMAGES, batch_norms_of, dithered, recalibrate
from fpgm_core.recovery.refit import images_that_fit
from fpgm_core.recovery.registry import RECOVERY_METHODS, get_recovery_method, ladder, recover
from fpgm_core.recovery.repaired import REPAIR

__all__ = [
    "BATCH",
    "FINE_TUNED",
    "NUM_IMAGES",
    "RECOVERY_METHODS",
    "REPAIR",
    "SURFACE_RATES",
    "DamageSurface",
    "RecoveryContext",
    "batch_norms_of",
    "damage",
    "damage_work",
    "dithered",
    "get_recovery_method",
    "images_that_fit",
    "ladder",
    "merged_tensors",
    "recalibrate",
    "recover",
    "twins",
]
