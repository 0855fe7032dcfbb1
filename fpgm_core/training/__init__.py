"""Training while pruning, and after: schedules, recipes, resumable runs."""

from fpgm_core.training.recipe import DECAYS, OFFICIAL, Decay, Recipe
from fpgm_core.training.recovery import Recovered, recover_steps
from fpgm_core.training.schedules import SCHEDULES, Schedule, get_schedule, masks_of
from fpgm_core.training.trainer import Epoch, Run, Trainer, augment

__all__ = [
    "DECAYS",
    "OFFICIAL",
    "SCHEDULES",
    "Decay",
    "Epoch",
    "Recipe",
    "Recovered",
    "Run",
    "Schedule",
    "Trainer",
    "augment",
    "get_schedule",
    "masks_of",
    "recover_steps",
]
