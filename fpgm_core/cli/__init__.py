"""The command line's commands, a record each; `python -m fpgm_core` runs them."""

from fpgm_core.cli import allocation as _allocation
from fpgm_core.cli import architectures as _architectures
from fpgm_core.cli import bench as _bench
from fpgm_core.cli import contest as _contest
from fpgm_core.cli import evaluate as _evaluate
from fpgm_core.cli import export as _export
from fpgm_core.cli import history as _history
from fpgm_core.cli import inspect as _inspect
from fpgm_core.cli import lesson as _lesson
from fpgm_core.cli import probe as _probe
from fpgm_core.cli import quantise as _quantise
from fpgm_core.cli import recovery as _recovery
from fpgm_core.cli import serve as _serve
from fpgm_core.cli import timing as _timing
from fpgm_core.cli import training as _training
from fpgm_core.cli.arguments import Command

_RECORDS = (
    _inspect.MODELS, _inspect.LAYERS, _evaluate.EVALUATE, _evaluate.VERIFY, _timing.LATENCY, _probe.PROBE,
    _evaluate.SENSITIVITY, _allocation.SUGGEST, _history.HISTORY, _history.COMPARE,
    _recovery.CALIBRATE, _recovery.REPAIR_COMMAND, _recovery.REPLACEABILITY,
    _recovery.DAMAGE, _contest.CONTEST, _export.EXPORT, _quantise.QUANTISE, _lesson.LESSON, _training.TRAIN,
    _training.RECOVER, _training.REPRODUCE, _bench.BENCH, _architectures.ARCHITECTURES,
    _serve.SERVE,
)  # fmt: skip
COMMANDS = {record.name: record for record in _RECORDS}

__all__ = ["COMMANDS", "Command"]
