"""Measuring: accuracy with intervals, streamed, on the device that is there."""

from fpgm_core.evaluation.device import DEVICES, PRECISIONS, choose_device, choose_precision
from fpgm_core.evaluation.evaluator import FIRST_FIGURE_IMAGES, Figure, Settings, evaluate, measure
from fpgm_core.evaluation.intervals import Interval, paired_change, wilson

__all__ = [
    "DEVICES",
    "FIRST_FIGURE_IMAGES",
    "PRECISIONS",
    "Figure",
    "Interval",
    "Settings",
    "choose_device",
    "choose_precision",
    "evaluate",
    "measure",
    "paired_change",
    "wilson",
]
