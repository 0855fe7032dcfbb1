"""Filter pruning, measured: the library behind the FPGM explorer.

>>> from fpgm_core import Network
>>> network = Network.load("resnet20")
>>> pruned = network.prune(0.4, criterion="fpgm")
>>> pruned.cost.macs
19126720
"""

from fpgm_core.allocation import suggest
from fpgm_core.criteria import CRITERIA, SelectionOptions, num_pruned
from fpgm_core.data import ImageSet
from fpgm_core.errors import FpgmError
from fpgm_core.evaluation import EvaluationConfig, Measurement, evaluate
from fpgm_core.explore import explore
from fpgm_core.export import export
from fpgm_core.graph import COUPLINGS
from fpgm_core.models import list_models, load_model
from fpgm_core.pruning import Network, Plan, PrunedNetwork
from fpgm_core.recovery import RECOVERY_METHODS, recover

__all__ = [
    "COUPLINGS",
    "CRITERIA",
    "RECOVERY_METHODS",
    "EvaluationConfig",
    "FpgmError",
    "ImageSet",
    "Measurement",
    "Network",
    "Plan",
    "PrunedNetwork",
    "SelectionOptions",
    "evaluate",
    "explore",
    "export",
    "list_models",
    "load_model",
    "num_pruned",
    "recover",
    "suggest",
]
