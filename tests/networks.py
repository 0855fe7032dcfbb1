"""Networks to prune: registry networks with randomised norms, and hand-made ones."""

import copy
from functools import cache

import numpy as np
import torch
from torch import nn

from fpgm_core import Network, Plan, load_model
from fpgm_core.models import cifar_models
from fpgm_core.runtime.torchvision_import import import_torchvision


def wrap(module: nn.Module, shape: tuple[int, int, int] = (3, 8, 8), seed: int = 0) -> Network:
    """Any module as a Network for images of `shape`, its norms' statistics and affine parameters randomised.

    An untrained network's norms shift nothing, its logits hide everything: without this, tests prove nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        if norm.running_mean is not None:
            norm.running_mean.normal_(0, 0.3, generator=generator)
            norm.running_var.uniform_(0.5, 1.5, generator=generator)
        if norm.affine:
            norm.weight.data.uniform_(0.5, 1.5, generator=generator)
            norm.bias.data.normal_(0, 0.5, generator=generator)
    for parameter in module.parameters():
        parameter.data[parameter.data == 0] = 1e-3  # one in 2^24 random weights is 0, and counts would miss it
    return Network.from_module(module, shape, name="toy", dataset="cifar10")


@cache
def load(name: str) -> Network:
    """A registry network with randomised norms: CIFAR's at 32 x 32, torchvision's at 64 x 64."""
    if name in {info.name for info in cifar_models()}:
        return wrap(copy.deepcopy(load_model(name).module), (3, 32, 32))
    models = import_torchvision("torchvision.models")
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}  # else they warn
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = models.get_model(name, weights=None, **options)
    return wrap(module, (3, 96, 96) if name == "inception_v3" else (3, 64, 64))


def mixed(network: Network, coupling: str, criterion: str = "l2_norm", seed: int = 0) -> Plan:
    """A plan with another rate for every unit and some filters locked against their scores."""
    rng = np.random.RandomState(seed)
    plan = network.plan(criterion=criterion, coupling=coupling)
    units = network.units(coupling)
    plan = plan.with_rates({unit.name: float(rng.choice([0, 0.1, 0.3, 0.45, 0.6])) for unit in units})
    for unit in units[::3]:
        worst_first = np.argsort(network.scores(unit, criterion), kind="stable")
        if plan.rate(unit.name) >= 0.3:
            plan = plan.with_lock(unit.name, int(worst_first[0]), "in").with_lock(
                unit.name, int(worst_first[-1]), "out"
            )
    return plan
