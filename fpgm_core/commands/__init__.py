"""The command line's commands, a record each; `python -m fpgm_core` runs them."""

from fpgm_core.commands.exporting import EXPORT
from fpgm_core.commands.looking import LAYERS, MODELS
from fpgm_core.commands.measuring import EVALUATE, LATENCY, VERIFY
from fpgm_core.commands.shared import Command
from fpgm_core.commands.training import RECOVER, REPRODUCE, TRAIN

_RECORDS = (MODELS, LAYERS, EVALUATE, VERIFY, LATENCY, EXPORT, TRAIN, RECOVER, REPRODUCE)
COMMANDS = {record.name: record for record in _RECORDS}

__all__ = ["COMMANDS", "Command"]
