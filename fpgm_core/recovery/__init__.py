"""The recovery ladder: what is done to a network after pruning."""

from fpgm_core.recovery.damage import (SURFACE_RATES, DamageSurface)
from fpgm_core.recovery.merged import (merged_tensors, twins)
from fpgm_core.recovery.method import (RecoveryContext)
from fpgm_core.recovery.recalibrated import (BATCH, batch_norms_of, dithered, recalibrate)
from fpgm_core.recovery.refit import (images_that_fit)
from fpgm_core.recovery.registry import (RECOVERY_METHODS, get_recovery_method, ladder)
from fpgm_core.recovery.repaired import (REPAIR)
from fpgm_core.recovery.scores import (bn_scales, provide, provide_steps, refit_cost_steps, taylor_steps)

__all__ = [
    "BATCH",
    "RECOVERY_METHODS",
    "REPAIR",
    "SURFACE_RATES",
    "DamageSurface",
    "RecoveryContext",
    "batch_norms_of",
    "bn_scales",
    "dithered",
    "get_recovery_method",
    "images_that_fit",
    "ladder",
    "merged_tensors",
    "provide",
    "provide_steps",
    "recalibrate",
    "refit_cost_steps",
    "taylor_steps",
    "twins",
]
