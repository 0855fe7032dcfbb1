"""Units: what one slider moves, under each coupling."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from fpgm_core.errors import FpgmError
from fpgm_core.graph.flow import Flow


@dataclass(frozen=True)
class Unit:
    """Layers that share one selection, named by the first of them in forward order; `size` filters each.

    Of each of `blocks` equal parts of the filters equally many are pruned: a grouped convolution's groups
    must stay of equal size. Of each of `copies` equal parts the same ones are: a layer that makes a gate and what it
    weighs. `blocks` is a multiple of it; 1 where there is none.
    """

    name: str
    members: tuple[str, ...]
    size: int
    blocks: int = 1
    copies: int = 1

    def with_copies(self, filters: Iterable[int]) -> tuple[int, ...]:
        """Some filters and those that leave with them, sorted."""
        if self.copies == 1:
            return tuple(filters)
        part = self.size // self.copies
        return tuple(sorted({(i + k * part) % self.size for i in filters for k in range(self.copies)}))


@dataclass(frozen=True)
class Coupling:
    """One way to group convolutions into units.

    `refuse` gives, for each convolution that it leaves whole, the reason; `pairs` the layers that must
    move together. What moves with a refused layer is refused as well.
    """

    name: str
    title: str
    summary: str
    refuse: Callable[[Flow], Mapping[str, str]]
    pairs: Callable[[Flow], tuple[tuple[str, str], ...]]


def _refuse_lone(flow: Flow) -> Mapping[str, str]:
    return {**flow.together, **flow.follows, **flow.fixed}


def _refuse_fixed(flow: Flow) -> Mapping[str, str]:
    return {**flow.follows, **flow.fixed}


def _refuse_joined(flow: Flow) -> Mapping[str, str]:
    return {**flow.joined, **flow.follows, **flow.fixed}


_RECORDS = (
    Coupling(
        "independent",
        "Independent",
        "Every convolution by itself, as in the paper; writers of a residual stream too.",
        _refuse_lone,
        lambda flow: (),
    ),
    Coupling(
        "inner",
        "Inner",
        "Only channels that no residual sum or concatenation fixes: what removal makes plain and narrow.",
        _refuse_joined,
        lambda flow: flow.tied,
    ),
    Coupling(
        "coupled",
        "Coupled",
        "Layers that share channels move together: the residual stream itself narrows, the fastest in practice.",
        _refuse_fixed,
        lambda flow: flow.tied + flow.summed,
    ),
)
COUPLINGS: Mapping[str, Coupling] = {record.name: record for record in _RECORDS}


def get_coupling(name: str) -> Coupling:
    """The coupling called `name`. Raises FpgmError, listing the names, where there is none."""
    if name not in COUPLINGS:
        raise FpgmError(f"unknown coupling {name!r}; choose one of {', '.join(COUPLINGS)}")
    return COUPLINGS[name]


def _groups(flow: Flow, coupling: str) -> list[list[str]]:
    """The convolutions that move together under a coupling, refused ones too, in forward order."""
    leader = {site.name: site.name for site in flow.convs}

    def find(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    for first, second in get_coupling(coupling).pairs(flow):
        leader[find(second)] = find(first)
    groups: dict[str, list[str]] = {}
    for name in leader:
        groups.setdefault(find(name), []).append(name)
    return list(groups.values())


def units(flow: Flow, coupling: str) -> tuple[Unit, ...]:
    """The units of a network under a coupling, in forward order."""
    refused = refusals(flow, coupling)
    sizes = {site.name: site.outputs for site in flow.convs}
    return tuple(
        Unit(
            group[0],
            tuple(group),
            sizes[group[0]],
            math.lcm(*(flow.blocks.get(name, 1) for name in group)),
            math.lcm(*(flow.copies.get(name, 1) for name in group)),
        )
        for group in _groups(flow, coupling)
        if group[0] not in refused
    )


def refusals(flow: Flow, coupling: str) -> dict[str, str]:
    """The convolutions that a coupling leaves whole, each with the reason, in forward order."""
    reasons = get_coupling(coupling).refuse(flow)
    refused: dict[str, str] = {}
    for group in _groups(flow, coupling):
        first = next((name for name in group if name in reasons), None)
        for name in group if first is not None else ():
            refused[name] = reasons.get(name, f"it moves with {first}, which is fixed: {reasons[str(first)]}")
    return {site.name: refused[site.name] for site in flow.convs if site.name in refused}
