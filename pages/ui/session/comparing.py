"""Plans side by side: who may be compared, and the work that does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import streamlit as st

from fpgm_core import COUPLINGS, CRITERIA, FpgmError, Network, Plan, PrunedNetwork
from fpgm_core.allocation import Goal, SuggestConfig, prepared_work, suggestion_of
from fpgm_core.criteria import check_scorable, get_criterion
from fpgm_core.data import load_images
from fpgm_core.evaluation import Comparison, HistoryEntry, Interval, compare_work, filters_that_differ, wilson
from fpgm_core.evaluation.contest import equal_rate
from fpgm_core.graph import Cost
from fpgm_core.recovery import ladder
from fpgm_core.runtime.progress import Work, within
from pages.ui.session.recovered import recovered_work
from pages.ui.session.view_state import ViewState

DENSE, NOW, RUNG, CRITERION, COUPLING, KEPT = "dense", "now", "rung", "criterion", "coupling", "kept"
MOST = 4
CHOSEN, VIEW = "compared", "choose_view"  # in the tab's state: who is compared, and what the page Choose shows


@dataclass(frozen=True)
class Contender:
    """One plan to compare, on its rung.

    `kind` says where it is from, `which` which one of that kind: a rung, a criterion, a coupling, an entry's number.
    A contender of kind COUPLING has the plan on screen, whose MACs its own plan is to have.
    """

    kind: str
    which: str
    plan: Plan
    method: str


@dataclass(frozen=True, eq=False)
class Side:
    """One plan of a comparison: `pruned` of each unit's `sizes` filters go; its accuracy once that is known."""

    plan: Plan
    cost: Cost
    sizes: Mapping[str, int]
    pruned: Mapping[str, int]
    accuracy: Interval | None = None

    @classmethod
    def of(cls, pruned: PrunedNetwork, accuracy: Interval | None = None) -> Side:
        """How a pruned network stands in a comparison."""
        units = pruned.network.units(pruned.plan.coupling)
        gone = {unit.name: int((~pruned.keep_masks[unit.name]).sum()) for unit in units}
        return cls(pruned.plan, pruned.cost, {unit.name: unit.size for unit in units}, gone, accuracy)


@dataclass(frozen=True, eq=False)
class Compared:
    """The first plan and the others against it: answers to the same images, and by layer which filters differ."""

    first: Side
    others: tuple[Side, ...]
    comparisons: tuple[Comparison, ...]
    filters: tuple[Mapping[str, tuple[np.ndarray, np.ndarray]], ...]


def ask_to_compare(entries: Sequence[int]) -> None:
    """Have the page Choose compare entries of the history; one alone with the dense network."""
    names = [f"{KEPT}:{number}" for number in entries]
    st.session_state[CHOSEN] = [f"{DENSE}:", *names] if len(names) == 1 else names
    st.session_state[VIEW] = "compare"


def contenders(network: Network, state: ViewState, entries: Sequence[HistoryEntry]) -> dict[str, Contender]:
    """All that may be compared with the plan on screen, by a name that is good as long as it is there."""
    plan, method = state.plan, state.method
    bare = replace(plan, rates={}, locked_in={}, locked_out={})
    found = [Contender(DENSE, "", bare, "as_is"), Contender(NOW, "", plan, method)]
    found += [Contender(RUNG, name, plan, name) for name in ladder(network) if name != method]
    found += [
        Contender(CRITERION, name, _by_criterion(network, plan, name), method)
        for name in CRITERIA
        if name != plan.criterion and _can_score(network, name)
    ]
    found += [Contender(COUPLING, name, plan, method) for name in COUPLINGS if name != plan.coupling]
    found += [Contender(KEPT, str(entry.id), entry.plan, entry.method) for entry in entries]
    return {f"{one.kind}:{one.which}": one for one in found}


def _can_score(network: Network, criterion: str) -> bool:
    try:
        check_scorable(network, criterion)
    except FpgmError:
        return False
    return True


def _by_criterion(network: Network, plan: Plan, criterion: str) -> Plan:
    """The same number of filters out of every unit, chosen by another criterion; without the locks of this one."""
    record = get_criterion(criterion)
    rates = {
        unit.name: equal_rate(record, unit, network.count_pruned(plan, unit) / unit.size, plan.options)
        for unit in network.units(plan.coupling)
    }
    return replace(plan, criterion=criterion, rates=rates, locked_in={}, locked_out={})


def compared_work(network: Network, asked: Sequence[Contender]) -> Work[Compared]:
    """Recover every plan, and have all answer the same images of the choose half.

    Raises FpgmError for fewer than two, and for one that cannot be had.
    """
    if len(asked) < 2:
        raise FpgmError("a comparison needs at least two plans; choose another one")
    networks, share = list[PrunedNetwork](), 0.6 / len(asked)
    for place, one in enumerate(asked):
        plan = one.plan
        if one.kind == COUPLING:
            plan = yield from within(_equal_cost_work(network, plan, one.which), place * share, place * share)
        work = recovered_work(network, plan, one.method)
        networks.append((yield from within(work, place * share, (place + 1) * share)))
    choose = load_images(network.dataset, "choose")
    found = yield from within(compare_work(networks, choose), 0.6)
    rights = [int((one.after == one.labels).sum()) for one in found]
    first = int((found[0].before == found[0].labels).sum())
    accuracies = [wilson(right, len(choose)) for right in (first, *rights)]
    sides = [Side.of(pruned, accuracy) for pruned, accuracy in zip(networks, accuracies, strict=True)]
    differ = tuple(filters_that_differ(networks[0], other) for other in networks[1:])
    return Compared(sides[0], tuple(sides[1:]), found, differ)


def known_side(network: Network, one: Contender) -> Side | None:
    """What is known of a contender before anything is computed; None where that is nothing."""
    if one.kind == COUPLING or not network.has_scores(one.plan.criterion):
        return None
    return Side.of(network.prune(one.plan))


def _equal_cost_work(network: Network, plan: Plan, coupling: str) -> Work[Plan]:
    """One rate for every unit of another coupling, as many MACs as a plan leaves."""
    like = network.plan(criterion=plan.criterion, coupling=coupling, options=plan.options)
    cut = 1 - network.cost(plan).macs / network.dense_cost.macs
    if cut <= 0:
        return like
    training = load_images(network.dataset, "train")
    config = SuggestConfig(allocator="uniform")
    prepared = yield from prepared_work(network, training, like=like, config=config)
    return suggestion_of(prepared, Goal({"macs": cut}), config).plan
