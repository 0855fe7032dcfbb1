"""A loaded network together with what pruning it needs: its flow, its units, its scores."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from fpgm_core.criteria import SelectionOptions, combined, get_criterion, overlap, select, spearman, unit_scores
from fpgm_core.errors import FpgmError
from fpgm_core.graph import TracedModule, bake_in, weights_of
from fpgm_core.graph.cost import Cost, count_cost
from fpgm_core.graph.units import Unit
from fpgm_core.models import cifar_models, load_model
from fpgm_core.pruning.compact import compact_module
from fpgm_core.pruning.masked import masked_module
from fpgm_core.pruning.plan import Plan
from fpgm_core.runtime.memo import Memo


class Network(TracedModule):
    """One network, ready to be pruned under any plan: shared between threads, never changed in place.

    `name` and `title` say what it is, `weights` where its weights come from, `trained` whether they were trained;
    `dataset` is the name of the data set that it classifies, "" where that is unknown. `class_names` are in the
    order of its outputs, `normalization` the (mean, std) per channel that it was trained with, for pixels in 0..1;
    either is None where it is unknown. `notice` is what must be known of the weights, or None. What is computed more
    than once (scores, masks) is remembered, in bounded memory.
    """

    def __init__(
        self,
        module: nn.Module,
        input_shape: tuple[int, int, int],
        *,
        name: str,
        title: str | None = None,
        dataset: str = "",
        class_names: tuple[str, ...] | None = None,
        normalization: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
        weights: str = "given",
        trained: bool = True,
        notice: str | None = None,
        shapes_on: str = "meta",
        build: Callable[[], nn.Module] | None = None,
    ) -> None:
        super().__init__(module, input_shape, shapes_on=shapes_on)
        self.name, self.title, self.dataset = name, title or name, dataset
        self.class_names, self.normalization = class_names, normalization
        self.weights, self.trained, self.notice = weights, trained, notice
        self._build = build
        self._costs = Memo(256)  # large for large networks
        self._handed: dict[str, Mapping[str, np.ndarray]] = {}

    @classmethod
    def load(cls, name: str, weights: Any = None) -> Network:
        """Load a network by its registry name; `weights` as in `models.load_model`."""
        loaded = load_model(name, weights)
        info = loaded.info
        return cls(
            loaded.module,
            info.input_shape,
            name=info.name,
            title=info.title,
            dataset=info.dataset,
            weights=loaded.weights,
            trained=loaded.trained,
            notice=loaded.notice,
            # This project's own networks are small, and known to run: no need of the meta device's import.
            shapes_on="cpu" if info in cifar_models() else "meta",
            build=info.build,
        )

    @classmethod
    def from_module(
        cls,
        module: nn.Module,
        input_shape: tuple[int, int, int] | None = None,
        *,
        example_input: Tensor | None = None,
        name: str | None = None,
        class_names: Sequence[str] | None = None,
        normalization: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
        dataset: str = "",
        trained: bool = True,
    ) -> Network:
        """Any module that maps images to logits and that torch.fx can trace.

        `input_shape` is (channels, height, width); or give an `example_input` (B, C, H, W). `name` is the class's
        unless given. The module is copied once, to the CPU in float32 and eval mode, and never changed. `trained` says
        whether an accuracy of it means anything. Raises FpgmError for what is no module, and where neither a shape nor
        an example is given; at first use where it cannot be traced.
        """
        if not isinstance(module, nn.Module):
            raise FpgmError(f"{type(module).__name__} is not a torch.nn.Module; give the network itself")
        if input_shape is None and example_input is not None:
            input_shape = tuple(example_input.shape[-3:])  # type: ignore[assignment]
        if input_shape is None or len(input_shape) != 3:
            raise FpgmError(f"input_shape {input_shape!r} is not (channels, height, width); give it, or example_input")
        copied = _copied(module).to("cpu", torch.float32).requires_grad_(False)
        name = name or type(module).__name__
        notice = None if trained else f"{name} is not trained: its costs are exact, but no accuracy can be measured"
        return cls(
            copied,
            tuple(map(int, input_shape)),  # type: ignore[arg-type]
            name=name,
            dataset=dataset,
            class_names=None if class_names is None else tuple(class_names),
            normalization=normalization,
            trained=trained,
            notice=notice,
        )

    def build(self) -> nn.Module:
        """A new module of the same architecture with random weights, drawn from torch's global generator."""
        if self._build is not None:
            return self._build()
        module = copy.deepcopy(self.module)
        for part in module.modules():
            reset = getattr(part, "reset_parameters", None)
            if callable(reset):
                reset()
        return module

    def plan(self, rate: float | Mapping[str, float] = 0.0, **fields: Any) -> Plan:
        """A plan for this network: one rate for all units, or a rate by unit name.

        `fields` are the plan's others: criterion, coupling, options, locked_in, locked_out.
        """
        plan = Plan(self.name, self.fingerprint, **fields)
        if not isinstance(rate, Mapping):
            rate = {unit.name: rate for unit in self.units(plan.coupling)}
        plan = plan.with_rates(rate)
        self.check(plan)
        return plan

    def check(self, plan: Plan) -> None:
        """Raise FpgmError where a plan is for another network, other weights, or names unknown units."""
        if plan.model != self.name:
            raise FpgmError(f"the plan is for {plan.model}, not {self.name}; open that model")
        if plan.fingerprint != self.fingerprint:
            raise FpgmError(
                f"the plan was made for other weights of {plan.model} (fingerprint {plan.fingerprint[:12]}, these "
                f"are {self.fingerprint[:12]}); load the weights it was made for, or make a new plan"
            )
        plan.check_units(unit.name for unit in self.units(plan.coupling))

    def scores(
        self, unit: Unit, criterion: str, options: SelectionOptions = SelectionOptions(), stage: int = -1
    ) -> np.ndarray:
        """One score a filter of a unit, float64 (N,), higher = more important: of the criterion's last stage.

        Raises FpgmError for a criterion that needs more than weights before its scores were handed in.
        """
        record = get_criterion(criterion)
        if record.needs != "weights":
            return combined([self._handed_in(criterion, member) for member in unit.members])
        score = record.stages[stage][0]
        read = tuple(getattr(options, name) for name in record.options)
        return self._memo(
            ("scores", unit.name, unit.members, criterion, read, stage),
            lambda: unit_scores(score, self._weights(unit), options),
        )

    def hand_scores(self, criterion: str, scores: Mapping[str, np.ndarray]) -> None:
        """Keep scores, float64 (N,) by layer, of a criterion that needs more than weights: the first that come stay."""
        self._handed.setdefault(criterion, dict(scores))

    def has_scores(self, criterion: str) -> bool:
        """Whether plans with this criterion can be made: always, where it needs weights alone."""
        return get_criterion(criterion).needs == "weights" or criterion in self._handed

    def _handed_in(self, criterion: str, layer: str) -> np.ndarray:
        if criterion not in self._handed:
            raise FpgmError(
                f"{criterion} scores filters by the network's {get_criterion(criterion).needs}, which have not been "
                "looked at yet; call fpgm_core.recovery.provide first"
            )
        if layer not in self._handed[criterion]:
            raise FpgmError(f"{criterion} has no scores for {layer}; choose another criterion for this network")
        return self._handed[criterion][layer]

    def agreement(self, unit: Unit) -> float | None:
        """Spearman's rank correlation of a unit's norm and FPGM scores; None where either is constant."""
        return self._memo(
            ("agreement", unit.name, unit.members),
            lambda: spearman(self.scores(unit, "l2_norm"), self.scores(unit, "fpgm")),
        )

    def overlap(self, plan: Plan, unit: Unit) -> float | None:
        """What the sets that norm and FPGM prune of a unit share at the plan's rate, 0..1; None where it is 0."""
        rate, options = plan.rate(unit.name), plan.options
        return self._memo(
            ("overlap", unit, rate, options),
            lambda: overlap(*(self._selected(unit, name, rate, options) for name in ("l2_norm", "fpgm"))),
        )

    def member_agreement(
        self, unit: Unit, criterion: str, options: SelectionOptions = SelectionOptions()
    ) -> float | None:
        """How far a unit's members agree: the least rank correlation of a member's own scores with the unit's."""
        own = [replace(unit, name=member, members=(member,)) for member in unit.members]
        together = self.scores(unit, criterion, options)
        found = [spearman(self.scores(one, criterion, options), together) for one in own]
        return min((rho for rho in found if rho is not None), default=None)

    def _weights(self, unit: Unit) -> dict[str, Any]:
        return {member: weights_of(self.module, member) for member in unit.members}

    def keep_mask(self, plan: Plan, unit: Unit) -> np.ndarray:
        """Which filters of a unit a plan keeps, bool (N,)."""
        locked_in, locked_out = plan.locked_in.get(unit.name, ()), plan.locked_out.get(unit.name, ())
        return self._selected(unit, plan.criterion, plan.rate(unit.name), plan.options, locked_in, locked_out)

    def _selected(
        self,
        unit: Unit,
        criterion_name: str,
        rate: float,
        options: SelectionOptions,
        locked_in: tuple[int, ...] = (),
        locked_out: tuple[int, ...] = (),
    ) -> np.ndarray:
        criterion = get_criterion(criterion_name)
        read = tuple(getattr(options, name) for name in criterion.options)
        counts = criterion.counts(unit.size, rate, options, unit.blocks)
        return self._memo(
            ("mask", unit, criterion_name, read, counts, locked_in, locked_out),
            lambda: select(
                criterion,
                self._weights(unit),
                rate,
                options,
                locked_in,
                locked_out,
                self.scores(unit, criterion_name, options, stage=0),
                unit.blocks,
            ),
        )

    def count_pruned(self, plan: Plan, unit: Unit) -> int:
        """How many filters of a unit a plan prunes: what its rate says, rounded as the plan says."""
        return get_criterion(plan.criterion).count(unit.size, plan.rate(unit.name), plan.options, unit.blocks)

    def keep_masks(self, plan: Plan) -> dict[str, np.ndarray]:
        """The keep mask, bool (N,), of every layer of every unit. Raises FpgmError for a plan that does not fit."""
        self.check(plan)
        return {
            member: mask
            for unit in self.units(plan.coupling)
            for mask in (self.keep_mask(plan, unit),)
            for member in unit.members
        }

    def holding(self, plan: Plan, keep_masks: Mapping[str, np.ndarray]) -> Plan:
        """`plan` where it prunes just what `keep_masks` prune, else one like it that does: all of it locked out."""
        own = self.keep_masks(plan)
        if all(np.array_equal(own[layer], keep_masks[layer]) for layer in own):
            return plan
        units = self.units(plan.coupling)
        gone = {unit.name: tuple(map(int, np.flatnonzero(~keep_masks[unit.name]))) for unit in units}
        return replace(
            plan,
            options=replace(plan.options, mix_share=0.0, round_to=1),
            rates={unit.name: len(gone[unit.name]) / unit.size for unit in units},
            locked_in={},
            locked_out={name: indices for name, indices in gone.items() if indices},
        )

    def prunes_nothing(self, plan: Plan) -> bool:
        """Whether a plan keeps every filter."""
        return all(bool(mask.all()) for mask in self.keep_masks(plan).values())

    def cost(self, plan: Plan) -> Cost:
        """MACs and parameters, by layer and in total, exact under the plan's masks."""
        return self._costs(plan.key, lambda: count_cost(self.flow, self.keep_masks(plan)))

    def masked(self, plan: Plan) -> nn.Module:
        """The masked network: removed channels are exactly zero; the dense one is not touched."""
        return masked_module(self.module, self.flow, self.keep_masks(plan))

    def compact(self, plan: Plan, aligned: bool = False) -> GraphModule:
        """The compact network: physically smaller, computing what `masked` computes. See `compact_module`."""
        return compact_module(self.module, self.flow, self.keep_masks(plan), aligned)


def _copied(module: nn.Module) -> nn.Module:
    """A copy in eval mode whose weights are all ordinary parameters. Raises FpgmError where it cannot be copied."""
    made = [value for part in module.modules() for value in vars(part).values() if isinstance(value, Tensor)]
    try:  # tensors with a history, which hooks make, are not copied by deepcopy
        copied = copy.deepcopy(module, {id(value): value.detach().clone() for value in made if not value.is_leaf})
    except Exception as error:
        raise FpgmError(f"this network cannot be copied ({error}); give a module that copy.deepcopy copies") from error
    bake_in(copied)
    return copied
