"""Filter pruning, measured: the library behind the FPGM explorer.

>>> from fpgm_core import Prunable, evaluate
>>> network = Prunable.load("resnet20")
>>> plan = network.plan(0.4, criterion="fpgm")
>>> network.cost(plan).macs
19126720
"""

from fpgm_core.errors import FpgmError
from fpgm_core.evaluation import Figure, Settings, evaluate, measure
from fpgm_core.filters import CRITERIA, Options, num_pruned
from fpgm_core.models import list_models, load_model
from fpgm_core.pruning import COUPLINGS, Plan, Prunable

__all__ = [
    "COUPLINGS",
    "CRITERIA",
    "Figure",
    "FpgmError",
    "Options",
    "Plan",
    "Prunable",
    "Settings",
    "evaluate",
    "list_models",
    "load_model",
    "measure",
    "num_pruned",
]
