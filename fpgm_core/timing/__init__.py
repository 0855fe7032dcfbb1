"""Time: networks run in turns in a runtime, with intervals, and what may be said of that."""

from fpgm_core.timing.engine import TimingConfig, Timings, timings_work
from fpgm_core.timing.intervals import BUSY, FASTER, SAME, SLOWER, VERDICTS, median_interval, ms_told, ratio_verdict
from fpgm_core.timing.latency import Latency, formed_work, forms_of, latency_work, measure_latency, speed_told
from fpgm_core.timing.layers import LayerShape
from fpgm_core.timing.memory import peak_bytes
from fpgm_core.timing.onnx_form import as_onnx
from fpgm_core.timing.prediction import Predictor, fitted, kept_predictor, probe_work
from fpgm_core.timing.probing import Whole, widths
from fpgm_core.timing.runtimes import RUNTIMES, Form, Runtime, Target, available_runtimes
from fpgm_core.timing.study import Predicted, TimingStudy, timing_study_work
from fpgm_core.timing.table import LayerTimes, TimeTable
from fpgm_core.timing.turns import Conditions, Lap, Pass
from fpgm_core.timing.zeros import Zeros, scatter_zeros, zeros_work

__all__ = [
    "BUSY",
    "FASTER",
    "RUNTIMES",
    "SAME",
    "SLOWER",
    "VERDICTS",
    "Conditions",
    "Form",
    "Lap",
    "Latency",
    "LayerShape",
    "LayerTimes",
    "Pass",
    "Predicted",
    "Predictor",
    "Runtime",
    "Target",
    "TimeTable",
    "TimingConfig",
    "TimingStudy",
    "Timings",
    "Whole",
    "Zeros",
    "as_onnx",
    "available_runtimes",
    "fitted",
    "formed_work",
    "forms_of",
    "kept_predictor",
    "latency_work",
    "measure_latency",
    "median_interval",
    "ms_told",
    "peak_bytes",
    "probe_work",
    "ratio_verdict",
    "scatter_zeros",
    "speed_told",
    "timing_study_work",
    "timings_work",
    "widths",
    "zeros_work",
]
