"""Filter pruning, measured: the library behind the FPGM explorer.

>>> from fpgm_core import Network, evaluate
>>> network = Network.load("resnet20")
>>> plan = network.plan(0.4, criterion="fpgm")
>>> network.cost(plan).macs
19126720
"""

from fpgm_core.criteria import CRITERIA, SelectionOptions, num_pruned
from fpgm_core.errors import FpgmError
from fpgm_core.evaluation import EvaluationConfig, Figure, evaluate, measure
from fpgm_core.graph import COUPLINGS
from fpgm_core.models import list_models, load_model
from fpgm_core.pruning import Network, Plan

__all__ = [
    "COUPLINGS",
    "CRITERIA",
    "EvaluationConfig",
    "Figure",
    "FpgmError",
    "Network",
    "Plan",
    "SelectionOptions",
    "evaluate",
    "list_models",
    "load_model",
    "measure",
    "num_pruned",
]
