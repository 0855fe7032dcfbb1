"""Measuring: accuracy with intervals, streamed, on the device that is there."""

from fpgm_core.evaluation.accuracy import PREVIEW_IMAGES, EvaluationConfig, evaluate, measure_work
from fpgm_core.evaluation.contest import CONTESTED, ContestConfig, contest, contest_work, equal_plan, known_contest
from fpgm_core.evaluation.contest_results import Contest, Entry, Ranking
from fpgm_core.evaluation.damage_study import StudiedPlan, Study, mixed_plans, study_work
from fpgm_core.evaluation.intervals import Interval, bootstrap_mean, change_between, paired_change, wilson
from fpgm_core.evaluation.latency import Latency, Zeros, latency_work, measure_latency, time_pass, zeros_work
from fpgm_core.evaluation.measurement import Measurement
from fpgm_core.evaluation.rank_correlation import RankCorrelation, holm, rank_correlation, rank_interval
from fpgm_core.evaluation.replaceability import (
    QUESTIONS,
    VERDICTS,
    Finding,
    Question,
    Replaceability,
    answers_told,
    replaceability,
    verdict_counts,
)
from fpgm_core.evaluation.scored import ScoredMeasurement, scored_work
from fpgm_core.evaluation.sensitivity import RATES, SWEEP_IMAGES, Point, Sweep, check_loss, sweep_work

__all__ = [
    "CONTESTED",
    "PREVIEW_IMAGES",
    "QUESTIONS",
    "RATES",
    "SWEEP_IMAGES",
    "VERDICTS",
    "Contest",
    "ContestConfig",
    "Entry",
    "EvaluationConfig",
    "Finding",
    "Interval",
    "Latency",
    "Measurement",
    "Point",
    "Question",
    "RankCorrelation",
    "Ranking",
    "Replaceability",
    "ScoredMeasurement",
    "StudiedPlan",
    "Study",
    "Sweep",
    "Zeros",
    "answers_told",
    "bootstrap_mean",
    "change_between",
    "check_loss",
    "contest",
    "contest_work",
    "equal_plan",
    "evaluate",
    "holm",
    "known_contest",
    "latency_work",
    "measure_latency",
    "measure_work",
    "mixed_plans",
    "paired_change",
    "rank_correlation",
    "rank_interval",
    "replaceability",
    "scored_work",
    "study_work",
    "sweep_work",
    "time_pass",
    "verdict_counts",
    "wilson",
    "zeros_work",
]
