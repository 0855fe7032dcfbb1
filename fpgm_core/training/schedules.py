"""When filters are selected and held at zero while a network trains: the paper's schedule and its relatives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn

from fpgm_core.criteria import get_criterion, select, unit_scores
from fpgm_core.errors import FpgmError
from fpgm_core.graph import Unit, weights_of
from fpgm_core.pruning import Network, Plan

Masks = dict[str, np.ndarray]  # layer -> keep mask, bool (N,)


class Choose(Protocol):
    """Gives the keep masks of a plan.

    `module` is the network in dense shapes as it is now, `so_far` the masks so far (None at the start), `done` the
    share 0..1 of the epochs that is done.
    """

    def __call__(  # noqa: D102  the class says it
        self, network: Network, plan: Plan, *, module: nn.Module, so_far: Masks | None, done: float
    ) -> Masks: ...


@dataclass(frozen=True)
class Schedule:
    """One way to prune while training.

    `choose` gives the keep masks at the start and after every epoch. `held` schedules keep pruned filters at zero
    after every step; the others only zero them between epochs, and gradients let them regrow. A `compact` schedule
    selects once, before training, and trains the compact network itself.
    """

    name: str
    title: str
    summary: str
    choose: Choose
    held: bool = True
    compact: bool = False


def masks_of(
    network: Network, plan: Plan, *, module: nn.Module, share: float = 1.0, gone: Masks | None = None
) -> Masks:
    """The keep masks that a plan's criterion chooses on the weights of `module`, at `share` of the plan's rates.

    `gone` are masks whose pruned filters stay pruned: only the survivors are scored, among themselves.
    """
    if get_criterion(plan.criterion).needs != "weights":
        if gone is not None:
            raise FpgmError(f"{plan.criterion} cannot be scored again while training; choose another schedule")
        return network.keep_masks(plan)  # the selection made before training
    masks: Masks = {}
    for unit in network.units(plan.coupling):
        before = gone[unit.name] if gone is not None else np.ones(unit.size, dtype=bool)
        masks |= dict.fromkeys(unit.members, _mask(plan, unit, module=module, share=share, before=before))
    return masks


def _mask(plan: Plan, unit: Unit, *, module: nn.Module, share: float, before: np.ndarray) -> np.ndarray:
    criterion, rate = get_criterion(plan.criterion), plan.rate(unit.name) * share
    out = {*unit.with_copies(plan.locked_out.get(unit.name, ())), *map(int, np.flatnonzero(~before))}
    if len(out) >= criterion.count(unit.size, rate, options=plan.options, blocks=unit.blocks):  # early in a ramp
        mask = before.copy()
        mask[sorted(out)] = False
        return mask
    weights = {member: weights_of(module, member).detach() for member in unit.members}
    alive = np.flatnonzero(before)
    scores = np.full(unit.size, -np.inf)
    among = {member: filters[torch.from_numpy(alive)] for member, filters in weights.items()}
    scores[alive] = unit_scores(criterion.stages[0].score, among, options=plan.options)
    kept = unit.with_copies(plan.locked_in.get(unit.name, ()))
    return select(
        criterion,
        weights,
        rate=rate,
        options=plan.options,
        locked_in=kept,
        locked_out=sorted(out),
        first_scores=scores,
        blocks=unit.blocks,
        copies=unit.copies,
    )


_RAMP = 0.5  # the part of a run over which a rescored schedule reaches the plan's rates


def _once(network: Network, plan: Plan, *, module: nn.Module, so_far: Masks | None, done: float) -> Masks:
    return so_far or masks_of(network, plan, module=module)


def _all_again(network: Network, plan: Plan, *, module: nn.Module, so_far: Masks | None, done: float) -> Masks:
    return masks_of(network, plan, module=module)


def _survivors(network: Network, plan: Plan, *, module: nn.Module, so_far: Masks | None, done: float) -> Masks:
    return masks_of(network, plan, module=module, share=min(1.0, done / _RAMP), gone=so_far)


_RECORDS = (
    Schedule(
        "finetune",
        "Prune, then fine-tune",
        "Selects once on the weights as they are, and trains the compact network: the quickest.",
        _once,
        compact=True,
    ),
    Schedule(
        "hard",
        "Hard, as published",
        "Zeroes at the start and after every epoch, gradients included. Zeroed filters are scored with the rest and "
        "win again, so the selection freezes at the start: from scratch it is made on random weights.",
        _all_again,
    ),
    Schedule(
        "rescored",
        "Hard, rescored among survivors",
        "The rates rise over the first half of the run; each epoch scores the survivors among themselves.",
        _survivors,
    ),
    Schedule(
        "soft",
        "Soft",
        "Zeroes after every epoch but lets gradients flow, so filters may regrow (He et al., IJCAI 2018).",
        _all_again,
        held=False,
    ),
)
SCHEDULES: Mapping[str, Schedule] = {record.name: record for record in _RECORDS}


def get_schedule(name: str) -> Schedule:
    """The schedule called `name`. Raises FpgmError, listing the names, where there is none."""
    if name not in SCHEDULES:
        raise FpgmError(f"unknown schedule {name!r}; choose one of {', '.join(SCHEDULES)}")
    return SCHEDULES[name]
