"""The command line's commands, a record each; `python -m fpgm_core` runs them."""

from fpgm_core.commands import benchmarking as _benchmarking
from fpgm_core.commands import contesting as _contesting
from fpgm_core.commands import exporting as _exporting
from fpgm_core.commands import looking as _looking
from fpgm_core.commands import measuring as _measuring
from fpgm_core.commands import repairing as _repairing
from fpgm_core.commands import teaching as _teaching
from fpgm_core.commands import training as _training
from fpgm_core.commands.shared import Command

_RECORDS = (
    _looking.MODELS, _looking.LAYERS, _measuring.EVALUATE, _measuring.VERIFY, _measuring.LATENCY,
    _measuring.SENSITIVITY, _repairing.CALIBRATE, _repairing.REPAIR_COMMAND, _repairing.REPLACEABILITY,
    _repairing.DAMAGE, _contesting.CONTEST, _exporting.EXPORT, _teaching.LESSON, _training.TRAIN, _training.RECOVER,
    _training.REPRODUCE, _benchmarking.BENCH,
)  # fmt: skip
COMMANDS = {record.name: record for record in _RECORDS}

__all__ = ["COMMANDS", "Command"]
