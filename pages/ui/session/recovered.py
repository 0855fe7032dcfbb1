"""What recovery made for every session of this server: the newest networks, and all that were trained."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cache
from typing import Generic, TypeVar

from fpgm_core import Measurement, Network, Plan, PrunedNetwork
from fpgm_core.training import Run
from pages.ui.session.networks import network_key

T = TypeVar("T")
_RECOVERED, _TRAINED = 4, 16  # networks that are kept


@dataclass(frozen=True, eq=False)
class Trained:
    """What training reached, with its accuracy on the choose half, before and after it."""

    pruned: PrunedNetwork
    run: Run
    before: Measurement
    after: Measurement


@dataclass
class Newest(Generic[T]):
    """The newest `limit` values by key, for all sessions; dictionaries are safe among threads."""

    limit: int
    values: OrderedDict[tuple[str, ...], T] = field(default_factory=OrderedDict)

    def keep(self, network: Network, plan: Plan, method: str, value: T) -> None:
        """Keep what a recovery method made of a plan, and forget the oldest beyond the limit."""
        self.values[*network_key(network), plan.key, method] = value
        while len(self.values) > self.limit:
            self.values.popitem(last=False)

    def get(self, network: Network, plan: Plan, method: str) -> T | None:
        """What a recovery method made of a plan, where it is kept."""
        return self.values.get((*network_key(network), plan.key, method))


@cache
def recovered_networks() -> Newest[PrunedNetwork]:
    """What was measured last, recovered: whoever exports it need not recover it anew."""
    return Newest(_RECOVERED)


@cache
def trained_networks() -> Newest[Trained]:
    """What was trained, by the plan that was asked for."""
    return Newest(_TRAINED)
