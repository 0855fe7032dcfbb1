"""Goals: what is to be cut, by how much; and the measures of cost that can be cut, in a registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fpgm_core.allocation.choices import Choices
from fpgm_core.allocation.costs import CostFunction, macs_of, params_of
from fpgm_core.errors import FpgmError
from fpgm_core.pruning import PrunedNetwork
from fpgm_core.runtime.registry import Registry


@dataclass(frozen=True)
class CostMeasure:
    """One measure of cost: MACs, parameters, or what a table of measurements says.

    `model` gives the cost of many allocations at once, see `CostFunction`; `exact` that of one pruned network, which
    decides whether a goal is met. `unit` is what it is counted in.
    """

    name: str
    title: str
    unit: str
    model: Callable[[Choices], CostFunction]
    exact: Callable[[PrunedNetwork], float]

    def of(self, choices: Choices) -> CostFunction:
        """The model for these choices, made once: every goal and every price asks for it."""
        if self.model not in choices.models:
            choices.models[self.model] = self.model(choices)
        return choices.models[self.model]


_OWN = (
    CostMeasure("macs", "MACs", "multiply-adds of one image", macs_of, lambda pruned: float(pruned.cost.macs)),
    CostMeasure("params", "Parameters", "parameters", params_of, lambda pruned: float(pruned.cost.params)),
)
COSTS = Registry[CostMeasure]("cost", _OWN)


def register_cost(measure: CostMeasure) -> None:
    """Add a measure of cost, milliseconds from a table say, or replace one of the same name that was added.

    Raises FpgmError for the name of one of the library's own.
    """
    COSTS.add(measure)


def unregister_cost(name: str) -> None:
    """Take out a measure that `register_cost` added. Raises FpgmError for any other name."""
    COSTS.remove(name)


@dataclass(frozen=True)
class Goal:
    """What is asked of a plan: `cuts`, by measure of cost the share that is to go, 0..1 without its ends; all at once.

    Raises FpgmError for no cut, an unknown measure, and a share that cannot be.
    """

    cuts: Mapping[str, float]

    def __post_init__(self) -> None:
        if not self.cuts:
            raise FpgmError("a goal needs something to cut: macs_cut=0.5, say")
        for name, cut in self.cuts.items():
            COSTS.find(name)
            if isinstance(cut, bool) or not isinstance(cut, (int, float)) or not 0 < cut < 1:
                raise FpgmError(f"a cut of {cut!r} is no share of the {COSTS[name].title}; give one between 0 and 1")
        object.__setattr__(self, "cuts", MappingProxyType(dict(self.cuts)))

    def limits(self, choices: Choices) -> tuple[float, ...]:
        """What is left of each cost at most, in the order of `cuts`."""
        dense = choices.network.prune(0.0)
        return tuple((1 - cut) * COSTS[name].exact(dense) for name, cut in self.cuts.items())

    def reached(self, pruned: PrunedNetwork) -> dict[str, float]:
        """By measure, the share of the dense network's cost that a pruned network has cut."""
        dense = pruned.network.prune(0.0)
        return {name: 1 - COSTS[name].exact(pruned) / COSTS[name].exact(dense) for name in self.cuts}

    def met(self, pruned: PrunedNetwork) -> bool:
        """Whether a pruned network meets it, by exact costs."""
        return all(self.reached(pruned)[name] >= cut - 1e-9 for name, cut in self.cuts.items())
