"""Measuring: accuracy with intervals, streamed, on the device that is there."""

from fpgm_core.evaluation.device import DEVICES, PRECISIONS, choose_device, choose_precision
from fpgm_core.evaluation.evaluator import (
    FIRST_FIGURE_IMAGES,
    Figure,
    Repairing,
    Settings,
    correct_steps,
    evaluate,
    measure,
    measure_network,
)
from fpgm_core.evaluation.intervals import Interval, paired_change, wilson
from fpgm_core.evaluation.latency import Latency, latency_steps, measure_latency, time_pass
from fpgm_core.evaluation.replaceability import Replaceability, rank_interval, replaceability, verdict
from fpgm_core.evaluation.sensitivity import RATES, SWEPT, Point, Sweep, sweep_steps
from fpgm_core.evaluation.surface_study import Studied, Study, mixed_plans, study_steps

__all__ = [
    "DEVICES",
    "FIRST_FIGURE_IMAGES",
    "PRECISIONS",
    "RATES",
    "SWEPT",
    "Figure",
    "Interval",
    "Latency",
    "Point",
    "Repairing",
    "Replaceability",
    "Settings",
    "Studied",
    "Study",
    "Sweep",
    "choose_device",
    "choose_precision",
    "correct_steps",
    "evaluate",
    "latency_steps",
    "measure",
    "measure_latency",
    "measure_network",
    "mixed_plans",
    "paired_change",
    "rank_interval",
    "replaceability",
    "study_steps",
    "sweep_steps",
    "time_pass",
    "verdict",
    "wilson",
]
