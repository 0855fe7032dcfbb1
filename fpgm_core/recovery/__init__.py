"""The recovery ladder: what is done to a network after pruning, a method a file."""

from fpgm_core.recovery.damage import SURFACE_RATES, DamageSurface, damage, damage_work
from fpgm_core.recovery.fine_tuned import fine_tuned_work
from fpgm_core.recovery.merged import Twins, merged_tensors, twins
from fpgm_core.recovery.method import RecoveryContext, RecoveryMethod
from fpgm_core.recovery.recalibrated import (
    BATCH,
    NUM_IMAGES,
    batch_norms_of,
    dithered,
    recalibrate,
    recalibrated_work,
    usual_rung,
)
from fpgm_core.recovery.refit import images_that_fit, refit_work
from fpgm_core.recovery.registry import (
    RECOVERY_METHODS,
    check_rung,
    get_recovery_method,
    ladder,
    recover,
    refused_rungs,
    register_recovery_method,
    unregister_recovery_method,
)
from fpgm_core.recovery.repaired import REPAIR, WATCHED, repaired_work

__all__ = [
    "BATCH",
    "NUM_IMAGES",
    "RECOVERY_METHODS",
    "REPAIR",
    "SURFACE_RATES",
    "WATCHED",
    "DamageSurface",
    "RecoveryContext",
    "RecoveryMethod",
    "Twins",
    "batch_norms_of",
    "check_rung",
    "damage",
    "damage_work",
    "dithered",
    "fine_tuned_work",
    "get_recovery_method",
    "images_that_fit",
    "ladder",
    "merged_tensors",
    "recalibrate",
    "recalibrated_work",
    "recover",
    "refit_work",
    "refused_rungs",
    "register_recovery_method",
    "repaired_work",
    "twins",
    "unregister_recovery_method",
    "usual_rung",
]
