"""A loaded network together with what pruning it needs: its flow, its units, its scores."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from torch import nn
from torch.fx import GraphModule

from fpgm_core.errors import FpgmError
from fpgm_core.filters import (
    Layer,
    Options,
    combined,
    dense_layers,
    get_criterion,
    overlap,
    select,
    spearman,
    unit_scores,
    weights_of,
)
from fpgm_core.models import LoadedModel, cifar_models, load_model
from fpgm_core.pruning.compact import compact_module
from fpgm_core.pruning.cost import Cost, count_cost
from fpgm_core.pruning.flow import Flow
from fpgm_core.pruning.masking import masked_module
from fpgm_core.pruning.plan import Plan
from fpgm_core.pruning.tracing import trace_flow
from fpgm_core.pruning.units import Unit, refusals, units


class Prunable:
    """One network, ready to be pruned under any plan: shared between threads, never changed in place.

    What it computes more than once (scores, masks) it remembers, in bounded memory.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self._memory = _Memory(8192)
        self._costs = _Memory(256)  # large for large networks
        self._handed: dict[str, Mapping[str, np.ndarray]] = {}

    @classmethod
    def load(cls, name: str, weights: Any = None) -> Prunable:
        """Load a network by its registry name; `weights` as in `models.load_model`."""
        return cls(load_model(name, weights))

    @property
    def module(self) -> nn.Module:
        """The dense network."""
        return self.loaded.module

    @cached_property
    def flow(self) -> Flow:
        """The channel-flow graph. Raises FpgmError where the network cannot be traced."""
        return trace_flow(self.module, self.loaded.info.input_shape, self._shapes_from)

    @property
    def _shapes_from(self) -> str:
        """The device of the pass that shapes are taken from: this project's own networks are small, and known."""
        return "cpu" if self.loaded.info in cifar_models() else "meta"

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Every convolution, in forward order."""
        return dense_layers(self.module, self.loaded.info.input_shape, self._shapes_from)

    @cached_property
    def dense_cost(self) -> Cost:
        """The cost of the dense network."""
        return count_cost(self.flow, {})

    def units(self, coupling: str) -> tuple[Unit, ...]:
        """The units under a coupling, in forward order."""
        return self._memory(("units", coupling), lambda: units(self.flow, coupling))

    def refusals(self, coupling: str) -> Mapping[str, str]:
        """The convolutions a coupling leaves whole, with the reason."""
        return self._memory(("refusals", coupling), lambda: refusals(self.flow, coupling))

    def unit_of(self, layer: str, coupling: str) -> Unit | None:
        """The unit that moves a layer, or None where the coupling leaves it whole."""
        return next((unit for unit in self.units(coupling) if layer in unit.members), None)

    def plan(self, rate: float | Mapping[str, float] = 0.0, **fields: Any) -> Plan:
        """A plan for this network: one rate for all units, or a rate by unit name.

        `fields` are the plan's others: criterion, coupling, options, locked_in, locked_out.
        """
        plan = Plan(self.loaded.info.name, self.loaded.fingerprint, **fields)
        if not isinstance(rate, Mapping):
            rate = {unit.name: rate for unit in self.units(plan.coupling)}
        plan = plan.with_rates(rate)
        self.check(plan)
        return plan

    def check(self, plan: Plan) -> None:
        """Raise FpgmError where a plan is for another network, other weights, or names unknown units."""
        if plan.model != self.loaded.info.name:
            raise FpgmError(f"the plan is for {plan.model}, not {self.loaded.info.name}; open that model")
        if plan.fingerprint != self.loaded.fingerprint:
            raise FpgmError(
                f"the plan was made for other weights of {plan.model} (fingerprint {plan.fingerprint[:12]}, these "
                f"are {self.loaded.fingerprint[:12]}); load the weights it was made for, or make a new plan"
            )
        plan.check_units(unit.name for unit in self.units(plan.coupling))

    def scores(self, unit: Unit, criterion: str, options: Options = Options(), stage: int = -1) -> np.ndarray:
        """One score a filter of a unit, float64 (N,), higher = more important: of the criterion's last stage.

        Raises FpgmError for a criterion that needs more than weights before its scores were handed in.
        """
        record = get_criterion(criterion)
        if record.needs != "weights":
            return combined([self._handed_in(criterion, member) for member in unit.members])
        score = record.stages[stage][0]
        read = tuple(getattr(options, name) for name in record.options)
        return self._memory(
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
                "looked at yet; call fpgm_core.repair.provide first"
            )
        if layer not in self._handed[criterion]:
            raise FpgmError(f"{criterion} has no scores for {layer}; choose another criterion for this network")
        return self._handed[criterion][layer]

    def agreement(self, unit: Unit) -> float | None:
        """Spearman's rank correlation of a unit's norm and FPGM scores; None where either is constant."""
        return self._memory(
            ("agreement", unit.name, unit.members),
            lambda: spearman(self.scores(unit, "l2_norm"), self.scores(unit, "fpgm")),
        )

    def overlap(self, plan: Plan, unit: Unit) -> float | None:
        """What the sets that norm and FPGM prune of a unit share at the plan's rate, 0..1; None where it is 0."""
        rate, options = plan.rate(unit.name), plan.options
        return self._memory(
            ("overlap", unit, rate, options),
            lambda: overlap(*(self._selected(unit, name, rate, options) for name in ("l2_norm", "fpgm"))),
        )

    def member_agreement(self, unit: Unit, criterion: str, options: Options = Options()) -> float | None:
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
        options: Options,
        locked_in: tuple[int, ...] = (),
        locked_out: tuple[int, ...] = (),
    ) -> np.ndarray:
        criterion = get_criterion(criterion_name)
        read = tuple(getattr(options, name) for name in criterion.options)
        counts = criterion.counts(unit.size, rate, options, unit.blocks)
        return self._memory(
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


class _Memory:
    """A bounded, thread-safe memory of computed values, the oldest out first.

    Reading takes no lock: many sessions' threads would queue for it, each a switch of the interpreter away.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: dict[Hashable, Any] = {}
        self._lock = threading.Lock()

    def __call__(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        value = self._values.get(key, self)
        if value is not self:
            return value
        value = compute()  # outside the lock: two threads may both compute it, to the same result
        if isinstance(value, np.ndarray):
            value.setflags(write=False)
        with self._lock:
            self._values[key] = value
            while len(self._values) > self._limit:
                del self._values[next(iter(self._values))]
        return value
