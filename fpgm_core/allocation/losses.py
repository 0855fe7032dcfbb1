"""What every unit loses at every count when it alone is pruned: predicted on training images, never measured on others.

Three losses, in a registry. `damage` reads second moments alone. `kl` runs the network: the Kullback-Leibler divergence
of its answers from the dense network's, once the unit's readers are refitted. `blend` measures that at few counts and
takes the shape between them from damage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fpgm_core.allocation.choices import Choices
from fpgm_core.calibration import RIDGE, Moments
from fpgm_core.calibration.block_obs import Elimination
from fpgm_core.calibration.moments import Moment, consumers
from fpgm_core.calibration.patches import as_matrices, groups_of
from fpgm_core.data import ImageSet
from fpgm_core.graph.flow import NEVER
from fpgm_core.pruning import PrunedNetwork, RecoveryStep
from fpgm_core.runtime.progress import Progress, Work, within


@dataclass(frozen=True, eq=False)
class Losses:
    """The predicted loss of every unit at every count it can lose, all others whole: float64 (counts,) each.

    Ascending, 0 where a unit loses nothing but what is locked out; summed over units they predict a plan's loss.
    `name` says which loss.
    """

    name: str
    choices: Choices
    by_unit: tuple[np.ndarray, ...]

    def of(self, chosen: np.ndarray) -> np.ndarray:
        """The predicted loss, float64 (...,), of allocations int (..., units)."""
        return sum(loss[chosen[..., place]] for place, loss in enumerate(self.by_unit))  # type: ignore[return-value]


def refitted(pruned: PrunedNetwork, moments: Moments, *, ridge: float = RIDGE) -> PrunedNetwork:
    """A pruned network whose layers are refitted from moments of the dense one: no image is read.

    Every layer that reads channels which are gone makes from the others what it can of what it made, by ridge least
    squares, as if all before it were dense: what `damage` predicts of one unit alone. Layers without moments stay.
    """
    weights: dict[str, Tensor] = {}
    network = pruned.network
    for layer in consumers(network):
        gone = ~pruned.live[layer.reads].any(0) & ~(layer.reads == NEVER).all(0)
        if layer.name not in moments.layers or not gone.any() or gone.all():
            continue
        module, moment = network.module.get_submodule(layer.name), moments.of(layer.name)
        groups = as_matrices(module.get_parameter("weight"), groups_of(module))
        fitted = [_without(rows, moment, group, part, ridge) for group, (rows, part) in enumerate(
            zip(groups, np.split(gone, len(groups)), strict=True))]  # fmt: skip
        weight = module.get_parameter("weight")
        weights[f"{layer.name}.weight"] = torch.cat(fitted).reshape(weight.shape).to(weight.dtype)
    return pruned.with_tensors(weights, RecoveryStep("refitted"))


def _without(rows: Tensor, moment: Moment, group: int, gone: np.ndarray, ridge: float) -> Tensor:
    """The weights (N, P) of one group, refitted to do without its channels `gone`, bool (channels,)."""
    problem = Elimination.of(rows.cpu(), moment, group=group, ridge=ridge)
    columns = np.repeat(gone, rows.shape[1] // len(gone))
    problem.remove(torch.from_numpy(np.flatnonzero(columns)))
    return problem.weight


def answers_kl(answers: Tensor, dense: Tensor) -> float:
    """The mean over images of KL(dense || answers), logits (images, classes) each, in nats."""
    log_dense = dense.double().log_softmax(1)
    return float((log_dense.exp() * (log_dense - answers.double().log_softmax(1))).sum(1).mean())
