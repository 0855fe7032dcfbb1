"""Units: what one slider moves, under each coupling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fpgm_core.errors import FpgmError
from fpgm_core.pruning.flow import Flow


@dataclass(frozen=True)
class Unit:
    """Layers that share one selection, named by the first of them in forward order; `size` filters each."""

    name: str
    members: tuple[str, ...]
    size: int


@dataclass(frozen=True)
class Coupling:
    """One way to group convolutions into units.

    `refuse` gives, for each convolution that it leaves whole, the reason; `group` the pairs of layers
    that must move together.
    """

    name: str
    title: str
    summary: str
    refuse: Callable[[Flow], Mapping[str, str]]
    pairs: Callable[[Flow], tuple[tuple[str, str], ...]]


def _refuse_fixed(flow: Flow) -> Mapping[str, str]:
    return flow.fixed


def _refuse_joined(flow: Flow) -> Mapping[str, str]:
    refused = {**flow.joined, **flow.fixed}
    for expansion, depthwise in flow.tied + flow.tied[::-1]:  # both ways, so that chains are refused whole
        for one, other in ((expansion, depthwise), (depthwise, expansion)):
            if one in refused:
                refused.setdefault(other, f"it moves with {one}, which is fixed: {refused[one]}")
    return refused


_RECORDS = (
    Coupling(
        "independent",
        "Independent",
        "Every convolution by itself, as in the paper; writers of a residual stream too.",
        _refuse_fixed,
        lambda flow: (),
    ),
    Coupling(
        "inner",
        "Inner",
        "Only channels that no residual sum or concatenation fixes: what removal makes plain and narrow.",
        _refuse_joined,
        lambda flow: flow.tied,
    ),
)
COUPLINGS: Mapping[str, Coupling] = {record.name: record for record in _RECORDS}


def get_coupling(name: str) -> Coupling:
    """The coupling called `name`. Raises FpgmError, listing the names, where there is none."""
    if name not in COUPLINGS:
        raise FpgmError(f"unknown coupling {name!r}; choose one of {', '.join(COUPLINGS)}")
    return COUPLINGS[name]


def units(flow: Flow, coupling: str) -> tuple[Unit, ...]:
    """The units of a network under a coupling, in forward order."""
    record = get_coupling(coupling)
    refused = record.refuse(flow)
    leader = {site.name: site.name for site in flow.convs}

    def find(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    for first, second in record.pairs(flow):
        leader[find(second)] = find(first)
    members: dict[str, list[str]] = {}
    sizes: dict[str, int] = {}
    for site in flow.convs:
        if site.name not in refused:
            members.setdefault(find(site.name), []).append(site.name)
            sizes[site.name] = site.outputs
    return tuple(Unit(group[0], tuple(group), sizes[group[0]]) for group in members.values())


def refusals(flow: Flow, coupling: str) -> dict[str, str]:
    """The convolutions that a coupling leaves whole, each with the reason."""
    refused = get_coupling(coupling).refuse(flow)
    return {site.name: refused[site.name] for site in flow.convs if site.name in refused}
