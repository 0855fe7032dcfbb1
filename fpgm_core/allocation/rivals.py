"""Allocation and selection against the best known tools, on one checkpoint, the same images, at the same MACs.

A rival's own package says which filters go; its plan is then brought to the same rungs as ours, by our recovery: what
is compared is which filters of which layers were chosen. Torch-Pruning comes with the extra `bench`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from fpgm_core.allocation.allocators import allocated
from fpgm_core.allocation.goals import Goal
from fpgm_core.allocation.suggestion import Prepared, SuggestConfig, prepared_work, suggestion_of
from fpgm_core.data import ImageSet
from fpgm_core.errors import FpgmError
from fpgm_core.evaluation import Interval, Measurement, measure_work
from fpgm_core.evaluation.compare import holm, mcnemar
from fpgm_core.pruning import Network, PrunedNetwork
from fpgm_core.runtime.extras import require
from fpgm_core.runtime.progress import Progress, Work, run, within

OURS = "ours"
RANDOM_SEEDS = 10
_BISECTIONS = 14  # of a rival's ratio
_TAYLOR_IMAGES = 128


class CannotCut(FpgmError):
    """A rival cannot cut as much."""


@dataclass(frozen=True)
class Rival:
    """A tool's way to prune: `prune(prepared, cut, training)` gives the network pruned so that the MACs cut is met."""

    name: str
    title: str
    prune: Callable[[Prepared, float, ImageSet], PrunedNetwork]


def _by_allocator(allocator: str, seed: int = 0) -> Callable[[Prepared, float, ImageSet], PrunedNetwork]:
    def prune(prepared: Prepared, cut: float, training: ImageSet) -> PrunedNetwork:
        try:
            return allocated(prepared.choices, Goal({"macs": cut}), allocator, losses=prepared.losses, seed=seed)
        except FpgmError as error:
            raise CannotCut(str(error)) from error

    return prune


def _by_torch_pruning(importance: str, **options: Any) -> Callable[[Prepared, float, ImageSet], PrunedNetwork]:
    def prune(prepared: Prepared, cut: float, training: ImageSet) -> PrunedNetwork:
        """The least ratio that cuts as much, found by bisection."""
        low, high, found = 0.0, 1.0, None
        for _ in range(_BISECTIONS):
            ratio = (low + high) / 2
            pruned = _torch_pruned(prepared, ratio, importance, training, options)
            if pruned is not None and Goal({"macs": cut}).met(pruned):
                high, found = ratio, pruned
            else:
                low = ratio
        if found is None:
            raise CannotCut(f"torch-pruning, {importance}, cuts {cut:.0%} of the MACs at no ratio")
        return found

    return prune


def _torch_pruned(
    prepared: Prepared, ratio: float, importance: str, training: ImageSet, options: Mapping[str, Any]
) -> PrunedNetwork | None:
    """What Torch-Pruning prunes at a ratio, as a plan of ours; None where that leaves nothing."""
    tp = require("torch_pruning", extra="bench")
    network = prepared.choices.network
    module = copy.deepcopy(network.module).requires_grad_(True)
    names = {part: name for name, part in module.named_modules()}
    ours = {member for one in prepared.choices.units for member in one.unit.members}
    others = [part for part, name in names.items() if isinstance(part, nn.Conv2d | nn.Linear) and name not in ours]
    criterion = getattr(tp.importance, importance)()
    pruner = tp.pruner.BasePruner(
        module, torch.zeros(1, *network.input_shape), criterion, pruning_ratio=ratio, ignored_layers=others, **options
    )
    if "Taylor" in importance:
        few = training.first(min(_TAYLOR_IMAGES, len(training)))
        nn.functional.cross_entropy(module(few.normalised(0, len(few))), few.labels).backward()
    gone: dict[str, set[int]] = {}
    for group in pruner.step(interactive=True):  # indices of the dense network: each group is yielded once
        for dependency, indices in group:
            target = dependency.target.module
            if isinstance(target, nn.Conv2d) and "out" in dependency.handler.__name__:
                gone.setdefault(names[target], set()).update(indices)
        group.prune()
    try:
        return _as_plan(prepared, gone)
    except FpgmError:
        return None


def _as_plan(prepared: Prepared, gone: Mapping[str, set[int]]) -> PrunedNetwork:
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
)


@dataclass(frozen=True, eq=False)
class Match:
    """One contender at one cut on one rung: what it really cut, and what was measured; None where it cannot."""

    contender: str
    cut: float
    rung: str
    reached: float | None
    measurement: Measurement | None


@dataclass(frozen=True, eq=False)
class Verdict:
    """Ours against the best rival at one cut on one rung, on the same images; `p` is adjusted over the grid (Holm)."""

    cut: float
    rung: str
    rival: str
    change: Interval
    p: float


@dataclass(frozen=True, eq=False)
class RatesBench:
    """All matches of one network under one coupling."""

    model: str
    coupling: str
    matches: tuple[Match, ...]

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Ours against the best of all rivals, for every cut and rung, with McNemar's p adjusted over them."""
        found = []
        for key in dict.fromkeys((one.cut, one.rung) for one in self.matches):
            here = {
                one.contender: one.measurement
                for one in self.matches
                if (one.cut, one.rung) == key and one.measurement is not None
            }
            ours = here.pop(OURS, None)
            if ours is None or not here:
                continue
            name, best = max(here.items(), key=lambda pair: pair[1].num_correct)
            found.append((*key, name, ours.against(best), mcnemar(best.right, ours.right)))
        adjusted = holm([one[-1] for one in found])
        return tuple(Verdict(*one[:-1], p) for one, p in zip(found, adjusted, strict=True))


def rates_bench_work(
    network: Network,
    images: ImageSet,
    training: ImageSet,
    *,
    coupling: str = "coupled",
    criterion: str = "fpgm",
    cuts: Sequence[float] = (0.3, 0.5, 0.7),
    rungs: Sequence[str] = ("recalibrated", "repaired"),
    rivals: Sequence[Rival] = RIVALS,
    config: SuggestConfig = SuggestConfig(),
) -> Work[RatesBench]:
    """Measure our plan and every rival's at each cut on each rung; each Progress has what is there so far.

    Raises FpgmError where a rival's package is not there.
    """
    for cut in cuts:
        Goal({"macs": cut})  # what cannot be asked is refused at once
    like = network.plan(criterion=criterion, coupling=coupling)
    prepared = yield from within(prepared_work(network, training, like=like, config=config), 0, 0.1)
    contenders = [Rival(OURS, "Solved", _solved(config)), *rivals]
    matches, total = list[Match](), len(contenders) * len(cuts)
    for place, (cut, rival) in enumerate((cut, rival) for cut in cuts for rival in contenders):
        so_far = RatesBench(network.name, coupling, tuple(matches))
        yield Progress(0.1 + 0.9 * place / total, what=f"{rival.name} at {cut:.0%}", partial=so_far)
        try:
            pruned = rival.prune(prepared, cut, training)
        except CannotCut:
            matches += [Match(rival.name, cut, rung, None, None) for rung in rungs]
            continue
        reached = 1 - pruned.cost.macs / network.dense_cost.macs
        for rung in rungs:
            work = measure_work(pruned, images, method=rung, training=training, config=config.evaluation, preview=False)
            matches.append(Match(rival.name, cut, rung, reached, run(work)))
    return RatesBench(network.name, coupling, tuple(matches))


def _solved(config: SuggestConfig) -> Callable[[Prepared, float, ImageSet], PrunedNetwork]:
    def prune(prepared: Prepared, cut: float, training: ImageSet) -> PrunedNetwork:
        try:
            return suggestion_of(prepared, Goal({"macs": cut}), config).pruned
        except FpgmError as error:
            raise CannotCut(str(error)) from error

    return prune
