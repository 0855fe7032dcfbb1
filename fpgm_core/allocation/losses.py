"""What every unit loses at every count when it alone is pruned: predicted on training images, never measured on others.

Three losses, in a registry. `kl` runs the network: the Kullback-Leibler divergence of its answers from the dense
network's, once the unit's readers are refitted; no labels are read. `damage` reads second moments alone. `blend`
measures `kl` at four counts, and takes the shape between them from damage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from fpgm_core.allocation.choices import Choices, UnitChoices
from fpgm_core.allocation.probe import Probe
from fpgm_core.calibration import RIDGE, Moments, UnitLoss, calibrate_work
from fpgm_core.calibration.block_obs import Elimination
from fpgm_core.calibration.moments import Moment, consumers
from fpgm_core.calibration.patches import as_matrices, groups_of
from fpgm_core.data import ImageSet
from fpgm_core.errors import FpgmError
from fpgm_core.graph.flow import NEVER
from fpgm_core.pruning import PrunedNetwork, RecoveryStep
from fpgm_core.pruning.masked import masked_tensors
from fpgm_core.recovery import RecoveryContext
from fpgm_core.runtime.progress import Progress, Work, within
from fpgm_core.runtime.storage import Kept, ResultStore

NUM_IMAGES = 256  # the last of the training images: moments are read of the first
KL_SHARES = (0.1, 0.25, 0.4, 0.55, 0.7, 0.8, 0.9, 1.0)  # of what a unit can lose: where `kl` is measured
BLEND_SHARES = (0.25, 0.55, 0.8, 1.0)
_FORMAT = 1
_STORE = ResultStore("losses")


@dataclass(frozen=True, eq=False)
class Losses:
    """The predicted loss of every unit at every count it can lose, all others whole: float64 (counts,) each.

    Ascending, from 0 where a unit loses least; summed over units they predict a plan's loss. `name` says which loss.
    """

    name: str
    choices: Choices
    by_unit: tuple[np.ndarray, ...]

    def of(self, chosen: np.ndarray) -> np.ndarray:
        """The predicted loss, float64 (...,), of allocations int (..., units)."""
        total: np.ndarray = np.sum([loss[chosen[..., place]] for place, loss in enumerate(self.by_unit)], axis=0)
        return total


@dataclass(frozen=True)
class LossMethod:
    """One way to predict losses: `title` for menus, `work` from choices, training images and a context to Losses."""

    name: str
    title: str
    work: Callable[[Choices, ImageSet, RecoveryContext], Work[Losses]]


def losses_work(
    choices: Choices,
    images: ImageSet,
    loss: str = "kl",
    *,
    context: RecoveryContext = RecoveryContext(),
    use_cache: bool = True,
) -> Work[Losses]:
    """The losses of every unit at every count, predicted from training images by a method of `LOSSES`.

    What was found before is read from `FPGM_HOME`, and what is found is kept there, unless `use_cache` is False.
    Raises FpgmError for an unknown method, and where nothing can be predicted.
    """
    if loss not in LOSSES:
        raise FpgmError(f"unknown loss {loss!r}; choose one of {', '.join(LOSSES)}")
    identity = {
        "format": _FORMAT,
        "network": choices.network.identity,
        "plan": choices.like.with_rates(dict.fromkeys(choices.like.rates, 0.0)).to_dict(),
        "scores": choices.network.scores_digest(choices.like.criterion),
        "counts": [one.counts.tolist() for one in choices.units],
        "images": images.digest,
        "loss": loss,
        "precision": str(context.dtype),
    }
    found = _STORE.read(identity, lambda kept: _losses_in(kept, loss, choices)) if use_cache else None
    if found is None:
        found = yield from LOSSES[loss].work(choices, images, context)
        if use_cache:
            _STORE.write(
                identity, Kept({}, {str(place): torch.from_numpy(row) for place, row in enumerate(found.by_unit)})
            )
    return found


def _losses_in(kept: Kept, loss: str, choices: Choices) -> Losses:
    rows = tuple(kept.arrays[str(place)].numpy() for place in range(len(choices.units)))
    if [len(row) for row in rows] != [len(one.counts) for one in choices.units] or not all(
        np.isfinite(row).all() for row in rows
    ):
        raise ValueError("losses of other shapes")
    return Losses(loss, choices, rows)


def _damage_work(choices: Choices, images: ImageSet, context: RecoveryContext) -> Work[Losses]:
    moments = yield from within(calibrate_work(choices.network, images, device=context.device), 0, 0.5)
    rows = yield from within(_damages(choices, moments), 0.5)
    if not any(row.any() for row in rows):
        raise FpgmError("no damage can be predicted: nobody that can be refitted reads the units; choose the loss kl")
    return Losses("damage", choices, rows)


def _damages(choices: Choices, moments: Moments) -> Work[tuple[np.ndarray, ...]]:
    """The damage of every unit at every count: see `fpgm_core.recovery.damage`. Zero where there is none."""
    rows = []
    for number, one in enumerate(choices.units, 1):
        try:
            loss = UnitLoss.of(choices.network, one.unit.members, moments=moments, relative=True)
        except FpgmError:
            rows.append(np.zeros(len(one.counts)))
        else:
            gone, total, row = np.zeros(one.unit.size, dtype=bool), 0.0, list[float]()
            for place in range(len(one.counts)):
                out = ~_pruned_alone(choices, one, place).keep_masks[one.unit.name]
                total += loss.remove(np.flatnonzero(out & ~gone))
                gone |= out
                row.append(total)
            rows.append(np.array(row) - row[0])
        yield Progress(number, len(choices.units), f"predicting {one.unit.name}")
    return tuple(rows)


def _kl_work(choices: Choices, images: ImageSet, context: RecoveryContext) -> Work[Losses]:
    moments = yield from within(calibrate_work(choices.network, images, device=context.device), 0, 0.1)
    straight = tuple(one.counts.astype(float) for one in choices.units)
    rows = yield from within(_divergences(choices, moments, images, context, KL_SHARES, straight), 0.1)
    return Losses("kl", choices, rows)


def _blend_work(choices: Choices, images: ImageSet, context: RecoveryContext) -> Work[Losses]:
    moments = yield from within(calibrate_work(choices.network, images, device=context.device), 0, 0.1)
    shapes = yield from within(_damages(choices, moments), 0.1, 0.4)
    rows = yield from within(_divergences(choices, moments, images, context, BLEND_SHARES, shapes), 0.4)
    return Losses("blend", choices, rows)


def _divergences(
    choices: Choices,
    moments: Moments,
    images: ImageSet,
    context: RecoveryContext,
    shares: tuple[float, ...],
    shapes: tuple[np.ndarray, ...],
) -> Work[tuple[np.ndarray, ...]]:
    """Divergences at `shares` of what each unit can lose; between and beyond them in proportion to its shape."""
    last = min(NUM_IMAGES, len(images))
    probe = Probe.of(choices.network, images.take(np.arange(len(images) - last, len(images)), "probe"), context)
    rows = []
    for number, (one, shape) in enumerate(zip(choices.units, shapes, strict=True), 1):
        most = len(one.counts) - 1
        places = [0, *sorted({max(1, round(share * most)) for share in shares if most})]
        found = [_divergence(choices, one, place, moments, probe) for place in places]
        rows.append(_between(shape, places, np.maximum.accumulate(found)))
        yield Progress(number, len(choices.units), f"pruning {one.unit.name} alone")
    return tuple(rows)


def _between(shape: np.ndarray, places: list[int], found: np.ndarray) -> np.ndarray:
    """Values at every count from those `found` at some: in proportion to `shape` from one to the next, ascending."""
    rising = shape + 1e-9 * (1 + shape[-1]) * np.arange(len(shape))  # where damage stands still, by count
    row = np.interp(rising, rising[places], found)
    if places[-1] > 0:
        row[places[-1] :] = found[-1] * rising[places[-1] :] / rising[places[-1]]
    result: np.ndarray = np.maximum.accumulate(row) - row[0]
    return result


def _divergence(choices: Choices, one: UnitChoices, place: int, moments: Moments, probe: Probe) -> float:
    pruned = refitted(_pruned_alone(choices, one, place), moments)
    masked = masked_tensors(pruned.dense_shaped(), choices.network.flow, pruned.keep_masks)
    return answers_kl(probe.with_tensors({**pruned.tensors, **masked}), probe.answers)


def _pruned_alone(choices: Choices, one: UnitChoices, place: int) -> PrunedNetwork:
    """The network with one unit pruned alone; of the others only what is locked out or fixed goes."""
    chosen = choices.least
    chosen[[other.unit.name for other in choices.units].index(one.unit.name)] = place
    return choices.network.prune(choices.plan(chosen))


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


_METHODS = (
    LossMethod("kl", "Divergence of the answers, each unit pruned and refitted alone", _kl_work),
    LossMethod("damage", "Predicted damage", _damage_work),
    LossMethod("blend", "Divergence at four counts, in the shape of predicted damage", _blend_work),
)
LOSSES: Mapping[str, LossMethod] = MappingProxyType({method.name: method for method in _METHODS})
