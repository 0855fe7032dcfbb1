"""What recovery made for every session of this server: the newest networks, and all that were trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from fpgm_core import FpgmError, Measurement, Network, Plan, PrunedNetwork
from fpgm_core.criteria import score_work
from fpgm_core.data import load_images
from fpgm_core.recovery import RecoveryContext, get_recovery_method
from fpgm_core.runtime.cache import Cache, size_of
from fpgm_core.runtime.device import choose_device, choose_precision
from fpgm_core.runtime.memo import once
from fpgm_core.runtime.progress import Work, within
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


def recovered_work(network: Network, plan: Plan, method: str) -> Work[PrunedNetwork]:
    """A plan's network on a rung: as it was trained or measured here, else scored and recovered now, as measuring does.

    Raises FpgmError for a rung that trains, where nothing was trained.
    """
    trained = trained_networks().get(network, plan, method)
    known = trained.pruned if trained is not None else recovered_networks().get(network, plan, method)
    if known is not None:
        return known
    record, device = get_recovery_method(method), choose_device("auto")
    if record.trains:
        raise FpgmError(f"{record.title}: this plan has not been trained on this server; train it on Recover")
    if not network.has_scores(plan.criterion):
        work = score_work(network, plan.criterion, load_images(network.dataset, "train"), device=device)
        network = network.with_scores(plan.criterion, (yield from within(work, 0, 0.5)))
    pruned = network.prune(plan)
    if pruned.prunes_nothing:
        return pruned
    training = load_images(network.dataset, "train") if record.needs_images else None
    context = RecoveryContext(device, choose_precision("auto", device))  # what is exported is what was measured
    return (yield from within(record.work(pruned, training, context), 0.5))
