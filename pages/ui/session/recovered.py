"""What recovery made for every session of this server: the newest networks, and all that were trained."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cache
from typing import Generic, TypeVar

from fpgm_core import FpgmError, Measurement, Network, Plan, PrunedNetwork
from fpgm_core.criteria import score_work
from fpgm_core.data import load_images
from fpgm_core.recovery import RecoveryContext, get_recovery_method
from fpgm_core.runtime.device import choose_device
from fpgm_core.runtime.progress import Work, within
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


def recovered_work(network: Network, plan: Plan, method: str) -> Work[PrunedNetwork]:
    """A plan's network on a rung: as it was trained or measured here, else scored and recovered now.

    Raises FpgmError for a rung that trains, where nothing was trained.
    """
    trained, known = trained_networks().get(network, plan, method), recovered_networks().get(network, plan, method)
    if trained is not None or known is not None:
        return trained.pruned if trained is not None else known  # type: ignore[return-value]  # one of them is there
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
    return (yield from within(record.work(pruned, training, RecoveryContext(device)), 0.5))
