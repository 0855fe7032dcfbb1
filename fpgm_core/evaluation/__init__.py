"""Measuring: accuracy with intervals, streamed, on the device that is there."""

from fpgm_core.evaluation.accuracy import PREVIEW_IMAGES, EvaluationConfig, evaluate, measure_work
from fpgm_core.evaluation.compare import ClassChange, Comparison, compare_work, filters_that_differ, predictions_work
from fpgm_core.evaluation.contest import CONTESTED, ContestConfig, contest, contest_work, equal_plan, known_contest
from fpgm_core.evaluation.contest_grid import GOALS, ContestGrid, contest_grid_work
from fpgm_core.evaluation.contest_results import Contest, Entry, Ranking
from fpgm_core.evaluation.history import History, HistoryEntry
from fpgm_core.evaluation.intervals import Interval, bootstrap_mean, change_between, paired_change, wilson
from fpgm_core.evaluation.kept import kept_measure_work
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
    "GOALS",
    "PREVIEW_IMAGES",
    "QUESTIONS",
    "RATES",
    "SWEEP_IMAGES",
    "VERDICTS",
    "ClassChange",
    "Comparison",
    "Contest",
    "ContestConfig",
    "ContestGrid",
    "Entry",
    "EvaluationConfig",
    "Finding",
    "History",
    "HistoryEntry",
    "Interval",
    "Measurement",
    "Point",
    "Question",
    "RankCorrelation",
    "Ranking",
    "Replaceability",
    "ScoredMeasurement",
    "Sweep",
    "answers_told",
    "bootstrap_mean",
    "change_between",
    "check_loss",
    "compare_work",
    "contest",
    "contest_grid_work",
    "contest_work",
    "equal_plan",
    "evaluate",
    "filters_that_differ",
    "holm",
    "kept_measure_work",
    "known_contest",
    "measure_work",
    "paired_change",
    "predictions_work",
    "rank_correlation",
    "rank_interval",
    "replaceability",
    "scored_work",
    "sweep_work",
    "verdict_counts",
    "wilson",
]
