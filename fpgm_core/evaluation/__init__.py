"""Measuring: accuracy with intervals, streamed, on the device that is there."""

from fpgm_core.evaluation.accuracy import (
    BATCH,
    FIRST_FIGURE_IMAGES,
    EvaluationConfig,
    Figure,
    Repairing,
    correct_steps,
    evaluate,
    measure,
    measure_network,
)
from fpgm_core.evaluation.contest import CONTESTED, ContestConfig, contest, contest_steps, equal_plan, known_contest
from fpgm_core.evaluation.contest_results import Contest, Entry, Ranking
from fpgm_core.evaluation.damage_study import Studied, Study, mixed_plans, study_steps
from fpgm_core.evaluation.intervals import Interval, change_between, paired_change, wilson
from fpgm_core.evaluation.latency import Latency, Zeros, latency_steps, measure_latency, time_pass, zeros_steps
from fpgm_core.evaluation.replaceability import Replaceability, premise, rank_interval, replaceability, verdict
from fpgm_core.evaluation.sensitivity import RATES, SWEPT, Point, Sweep, check_loss, sweep_steps

__all__ = [
    "BATCH",
    "CONTESTED",
    "FIRST_FIGURE_IMAGES",
    "RATES",
    "SWEPT",
    "Contest",
    "ContestConfig",
    "Entry",
    "EvaluationConfig",
    "Figure",
    "Interval",
    "Latency",
    "Point",
    "Ranking",
    "Repairing",
    "Replaceability",
    "Studied",
    "Study",
    "Sweep",
    "Zeros",
    "change_between",
    "check_loss",
    "contest",
    "contest_steps",
    "correct_steps",
    "equal_plan",
    "evaluate",
    "known_contest",
    "latency_steps",
    "measure",
    "measure_latency",
    "measure_network",
    "mixed_plans",
    "paired_change",
    "premise",
    "rank_interval",
    "replaceability",
    "study_steps",
    "sweep_steps",
    "time_pass",
    "verdict",
    "wilson",
    "zeros_steps",
]
