"""Training while pruning, and after: schedules, recipes, resumable runs."""

from fpgm_core.training.outcome import (Outcome, outcome_steps, write_outcome)
from fpgm_core.training.recipe import (DECAYS, OFFICIAL, RECIPES, Decay, Recipe)
from fpgm_core.training.recovery import (Recovered, recover_steps)
from fpgm_core.training.reproduce import (CONTROLS, PAPER, Case, cases, run_case, table)
from fpgm_core.training.schedules import (SCHEDULES, Schedule, get_schedule, masks_of)
from fpgm_core.training.trainer import (Epoch, Run, Trainer, augment, draw_crops)

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
    "Recovered",
    "Run",
    "Schedule",
    "Trainer",
    "augment",
    "cases",
    "draw_crops",
    "get_schedule",
    "masks_of",
    "outcome_steps",
    "recover_steps",
    "run_case",
    "table",
    "write_outcome",
]
