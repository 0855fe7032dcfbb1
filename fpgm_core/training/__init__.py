"""Training while pruning, and after: schedules, recipes, resumable runs."""

from fpgm_core.training.augmentation import augment, draw_crops
from fpgm_core.training.loss import batch_loss
from fpgm_core.training.outcome import Outcome, outcome_work, write_outcome
from fpgm_core.training.recipe import DECAYS, OFFICIAL, RECIPES, Decay, Recipe
from fpgm_core.training.reproduce import CONTROLS, PAPER, Case, case_work, cases, family_rate, recipe_of, table
from fpgm_core.training.run import Epoch, Run
from fpgm_core.training.schedules import SCHEDULES, Schedule, get_schedule, masks_of
from fpgm_core.training.trainer import Trainer

__all__ = [
    "CONTROLS",
    "DECAYS",
    "OFFICIAL",
    "PAPER",
    "RECIPES",
    "SCHEDULES",
    "Case",
    "Decay",
    "Epoch",
    "Outcome",
    "Recipe",
    "Run",
    "Schedule",
    "Trainer",
    "augment",
    "batch_loss",
    "case_work",
    "cases",
    "draw_crops",
    "family_rate",
    "get_schedule",
    "masks_of",
    "outcome_work",
    "recipe_of",
    "table",
    "write_outcome",
]
