"""What recovery made for every session of this server: the newest networks, and all that were trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from fpgm_core import Measurement, Network, Plan, PrunedNetwork
from fpgm_core.runtime.cache import Cache, size_of
from fpgm_core.runtime.memo import once
from fpgm_core.training import Run
from pages.ui.session.networks import network_key

T = TypeVar("T")
TRAINED = "trained"


@dataclass(frozen=True, eq=False)
class Trained:
    """What training reached, with its accuracy on the choose half, before and after it."""

    pruned: PrunedNetwork
    run: Run
    before: Measurement
    after: Measurement


class Newest(Generic[T]):
    """What recovery methods made of plans, for all sessions: as much of it as there is room for."""

    def __init__(self, name: str, sizeof: Callable[[T], int]) -> None:
        self._cache = Cache[T](name, sizeof=sizeof)

    def keep(self, network: Network, plan: Plan, method: str, value: T) -> None:
        """Keep what a recovery method made of a plan."""
        self._cache.put((*network_key(network), plan.key, method), value)

    def get(self, network: Network, plan: Plan, method: str) -> T | None:
        """What a recovery method made of a plan, where it is kept."""
        return self._cache.get((*network_key(network), plan.key, method))

    def clear(self) -> None:
        """Forget all of it."""
        self._cache.clear()


@once
def recovered_networks() -> Newest[PrunedNetwork]:
    """What was measured last, recovered: whoever exports it need not recover it anew."""
    return Newest("recovered", lambda pruned: size_of(pruned.tensors))


@once
def trained_networks() -> Newest[Trained]:
    """What was trained, by the plan that was asked for."""
    return Newest(TRAINED, lambda trained: size_of(trained.pruned.tensors))
