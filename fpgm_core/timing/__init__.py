"""Time: networks run in turns in a runtime, with intervals, and what may be said of that."""

from fpgm_core.timing.engine import TimingConfig, Timings, timings_work
from fpgm_core.timing.intervals import BUSY, FASTER, SAME, SLOWER, VERDICTS, median_interval, ratio_verdict
from fpgm_core.timing.latency import Latency, formed_work, forms_of, latency_work, measure_latency, speed_told
from fpgm_core.timing.memory import peak_bytes
from fpgm_core.timing.onnx_form import as_onnx
from fpgm_core.timing.runtimes import RUNTIMES, Form, Runtime, Target, available_runtimes
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
    "Pass",
    "Runtime",
    "Target",
    "TimingConfig",
    "Timings",
    "Zeros",
    "as_onnx",
    "available_runtimes",
    "formed_work",
    "forms_of",
    "latency_work",
    "measure_latency",
    "median_interval",
    "peak_bytes",
    "ratio_verdict",
    "scatter_zeros",
    "speed_told",
    "timings_work",
    "zeros_work",
]
