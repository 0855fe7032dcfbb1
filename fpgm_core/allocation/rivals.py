"""Other ways to choose what to prune: the best known tools' own packages, brought to plans of ours.

A rival's package says which filters go; `fpgm_core.allocation.rates_bench` brings its plan to the same rungs as ours.
Torch-Pruning comes with the extra `bench`; so does NVIDIA's Model Optimizer, see `fpgm_core.allocation.fastnas`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from fpgm_core.allocation.allocators import allocated
from fpgm_core.allocation.fastnas import FastNAS
from fpgm_core.allocation.goals import Goal
from fpgm_core.allocation.suggestion import Prepared, SuggestConfig, suggestion_of
from fpgm_core.data import ImageSet
from fpgm_core.errors import FpgmError
from fpgm_core.pruning import PrunedNetwork
from fpgm_core.runtime.extras import require

OURS = "ours"
RANDOM_SEEDS = 10
_STEPS = 1024  # of Torch-Pruning's ratio
_TAYLOR_IMAGES = 128


class CannotCut(FpgmError):
    """A rival cannot cut as much."""


Cutter = Callable[[float], PrunedNetwork]
"""From a share of the MACs to the network pruned so that at least as much is cut; raises CannotCut."""


@dataclass(frozen=True)
class Rival:
    """A tool's way to prune: `begin(prepared, training)` gives what prunes to any cut of the MACs.

    `models` are the networks that it is for; empty for all.
    """

    name: str
    title: str
    begin: Callable[[Prepared, ImageSet], Cutter]
    models: tuple[str, ...] = ()


def solved(config: SuggestConfig) -> Rival:
    """Ours."""

    def begin(prepared: Prepared, training: ImageSet) -> Cutter:
        return _refusing(lambda cut: suggestion_of(prepared, Goal({"macs": cut}), config).pruned)

    return Rival(OURS, "Solved", begin)


def _by_allocator(allocator: str, seed: int = 0) -> Callable[[Prepared, ImageSet], Cutter]:
    def begin(prepared: Prepared, training: ImageSet) -> Cutter:
        def prune(cut: float) -> PrunedNetwork:
            goal = Goal({"macs": cut})
            return allocated(prepared.choices, goal, allocator, losses=prepared.losses, seed=seed)

        return _refusing(prune)

    return begin


def _refusing(prune: Cutter) -> Cutter:
    """The same, with a goal that cannot be met as CannotCut."""

    def cutter(cut: float) -> PrunedNetwork:
        try:
            return prune(cut)
        except FpgmError as error:
            raise CannotCut(str(error)) from error

    return cutter


def _by_torch_pruning(importance: str, **options: Any) -> Callable[[Prepared, ImageSet], Cutter]:
    return partial(_TorchPruning, importance=importance, options=options)


class _TorchPruning:
    """Torch-Pruning on a copy of a network: what it would prune at any ratio; the copy is never pruned.

    Its pruner scores every group before it prunes the first, so its choice at a ratio is that of an undisturbed copy.
    """

    def __init__(self, prepared: Prepared, training: ImageSet, *, importance: str, options: Mapping[str, Any]) -> None:
        tp = require("torch_pruning", extra="bench")
        self._prepared, self._name = prepared, importance
        network = prepared.choices.network
        self._module = copy.deepcopy(network.module).requires_grad_(True)
        self._names = {part: name for name, part in self._module.named_modules()}
        ours = {member for one in prepared.choices.units for member in one.unit.members}
        others = [
            part for part, name in self._names.items() if isinstance(part, nn.Conv2d | nn.Linear) and name not in ours
        ]
        self._pruner = tp.pruner.BasePruner(
            self._module, torch.zeros(1, *network.input_shape), getattr(tp.importance, importance)(),
            pruning_ratio=1.0, iterative_steps=_STEPS, ignored_layers=others, **options,
        )  # fmt: skip
        if "Taylor" in importance:
            few = training.first(min(_TAYLOR_IMAGES, len(training)))
            nn.functional.cross_entropy(self._module(few.normalised(0, len(few))), few.labels).backward()
        self._found = dict[int, PrunedNetwork | None]()

    def __call__(self, cut: float) -> PrunedNetwork:
        """The network pruned at the least ratio that cuts as much, found by bisection."""
        low, high = 0, _STEPS
        while high - low > 1:
            step = (low + high) // 2
            pruned = self._at(step)
            met = pruned is None or Goal({"macs": cut}).met(pruned)  # what leaves nothing cuts enough
            low, high = (low, step) if met else (step, high)
        pruned = self._at(high)
        if pruned is None or not Goal({"macs": cut}).met(pruned):
            raise CannotCut(f"torch-pruning, {self._name}, cuts {cut:.0%} of the MACs at no ratio")
        return pruned

    def _at(self, step: int) -> PrunedNetwork | None:
        """What it prunes at a ratio, as a plan of ours; None where that leaves nothing."""
        if step not in self._found:
            try:
                self._found[step] = as_plan(self._prepared, self._gone(step))
            except FpgmError:
                self._found[step] = None
        return self._found[step]

    def _gone(self, step: int) -> dict[str, set[int]]:
        self._pruner.current_step = step - 1
        gone = dict[str, set[int]]()
        for group in self._pruner.step(interactive=True):
            for dependency, indices in group:
                target = dependency.target.module
                if isinstance(target, nn.Conv2d) and "out" in dependency.handler.__name__:
                    gone.setdefault(self._names[target], set()).update(indices)
        return gone


def _by_fastnas(prepared: Prepared, training: ImageSet) -> Cutter:
    return _refusing(FastNAS(prepared, training, as_plan=as_plan))


def as_plan(prepared: Prepared, gone: Mapping[str, set[int]]) -> PrunedNetwork:
    """A plan of ours that prunes, of every unit, the filters that are gone from all its members."""
    choices = prepared.choices
    masks: dict[str, np.ndarray] = {}
    for one in choices.units:
        dropped = set.intersection(*(gone.get(member, set()) for member in one.unit.members))
        mask = np.array([index not in dropped for index in range(one.unit.size)])
        masks |= dict.fromkeys(one.unit.members, mask)
    return choices.network.prune(choices.network.plan_that_prunes(masks, choices.like))


RIVALS: tuple[Rival, ...] = (
    Rival("uniform", "Uniform rates, same criterion", _by_allocator("uniform")),
    Rival("global", "Global ranking, same criterion", _by_allocator("global")),
    *(
        Rival(f"tp_{name}_{how}", f"Torch-Pruning, {title}, {how}", _by_torch_pruning(importance, **options))
        for name, title, importance in (
            ("l2", "magnitude", "GroupMagnitudeImportance"),
            ("fpgm", "FPGM", "FPGMImportance"),
            ("taylor", "Taylor", "GroupTaylorImportance"),
        )
        for how, options in (
            ("uniform", {}),
            ("global", {"global_pruning": True}),
            ("isomorphic", {"global_pruning": True, "isomorphic": True}),
        )
    ),
    *(
        Rival(f"random_{seed}", f"Random rates, seed {seed}", _by_allocator("random", seed))
        for seed in range(RANDOM_SEEDS)
    ),
    Rival("fastnas", "NVIDIA FastNAS", _by_fastnas, models=("resnet20",)),
)
