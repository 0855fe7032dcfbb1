"""What a walk over the traced network gathers, until it is sealed as a Flow."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.fx
from torch import nn

from fpgm_core.graph.flow import ALWAYS, Flow, Gate, Norm, Value, WeightedLayer

Known = Value | tuple[Value, ...] | None  # several values for an operation with several results; None for numbers


_SHARING = (operator.getitem, "view", "reshape", torch.reshape)  # their results may share memory with what they read


@dataclass
class Builder:
    """The state of one walk over the graph."""

    modules: Mapping[str, nn.Module]
    values: dict[str, Known] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)  # a node changed in place -> the node that changed it
    sites: list[WeightedLayer] = field(default_factory=list)
    norms: list[Norm] = field(default_factory=list)
    readers: list[WeightedLayer | Gate] = field(default_factory=list)
    owner: list[str] = field(default_factory=lambda: [""])  # global filter index -> layer name
    fixed: dict[str, str] = field(default_factory=dict)
    joined: dict[str, str] = field(default_factory=dict)
    follows: dict[str, str] = field(default_factory=dict)
    tied: list[tuple[str, str]] = field(default_factory=list)
    summed: list[tuple[str, str]] = field(default_factory=list)
    blocks: dict[str, int] = field(default_factory=dict)
    observed: list[np.ndarray] = field(default_factory=list)
    again: set[str] = field(default_factory=set)  # modules that run more than once

    def of(self, node: torch.fx.Node) -> Known:
        """What is known of the tensor that reading `node` brings now."""
        name = node.name
        while name in self.renamed:
            name = self.renamed[name]
        return self.values[name]

    def part_of(self, node: torch.fx.Node) -> Value | None:
        """The tensor whose memory a slice or a chunk shares: what changes in the part changes in the whole."""
        known = self.of(node)
        if node.target not in _SHARING or not isinstance(known, Value) or known.how != "gather":
            return None
        base = self.values[known.base]
        return base if isinstance(base, Value) else None

    def site(self, name: str) -> WeightedLayer:
        """The site of that name."""
        return next(site for site in self.sites if site.name == name)

    def add_site(self, site: WeightedLayer) -> None:
        """Note a convolution or Linear layer, and the filters it brings."""
        self.sites.append(site)
        self.readers.append(site)
        if site.filter_offset >= 0:
            self.owner.extend([site.name] * site.outputs)

    def writers(self, sources: np.ndarray) -> list[str]:
        """The layers with a filter among the sources, in order."""
        return list(dict.fromkeys(self.owner[i] for i in np.unique(sources) if i > ALWAYS))

    def fix(self, sources: np.ndarray, reason: str) -> None:
        """No coupling may prune what writes these channels."""
        self.observed.append(sources)
        for name in self.writers(sources):
            if name not in self.fixed:
                self.fixed[name] = reason
                site = self.site(name)
                if site.groups > 1:  # what it reads one by one, or in groups, its filters would vanish with
                    self.fix(site.reads, f"it feeds {name}, which is fixed: {reason}")

    def join(self, sources: np.ndarray, reason: str) -> None:
        """`inner` may not prune what writes these channels."""
        for name in self.writers(sources):
            self.joined.setdefault(name, reason)

    def positions(self, layer: str, sources: np.ndarray) -> tuple[int, ...] | None:
        """At which channel each filter of a layer writes; None where some write nowhere, or at several."""
        site = self.site(layer)
        at = np.argwhere((sources >= site.filter_offset) & (sources < site.filter_offset + site.outputs))
        filters = sources[tuple(at.T)] - site.filter_offset
        if sorted(filters) != list(range(site.outputs)):
            return None
        return tuple(int(c) for c in at[np.argsort(filters), 1])

    def ran_before(self, name: str) -> bool:
        """Whether a module ran before: one mask cannot serve two places, so everything around it stays."""
        ran: list[WeightedLayer | Norm] = [*self.sites, *self.norms]
        before = [item for item in ran if item.name == name]
        for item in before:
            reason = f"{name} runs more than once in a forward pass"
            self.again.add(name)
            self.fix(item.reads, reason)
            self.fixed.setdefault(name, reason)
            if isinstance(item, WeightedLayer) and item.filter_offset >= 0:
                self.fix(np.arange(item.filter_offset, item.filter_offset + item.outputs), reason)
        return bool(before)

    def flow(self, graph: torch.fx.GraphModule, constants: Mapping[str, torch.Tensor]) -> Flow:
        """What the walk has found, sealed."""
        covered = {site.name for site in self.sites} | {norm.name for norm in self.norms}
        observed = np.unique(np.concatenate([sources.ravel() for sources in self.observed]))
        sites: dict[int, WeightedLayer] = {id(site): self._sealed(site) for site in self.sites}
        return Flow(
            graph=graph,
            constants=constants,
            values={
                name: replace(value[0], how="view") if isinstance(value, tuple) else value
                for name, value in self.values.items()
                if value is not None
            },
            sites=tuple(sites.values()),
            norms=tuple(replace(n, after=None) if {n.name, n.after} & self.again else n for n in self.norms),
            readers=tuple(sites[id(r)] if isinstance(r, WeightedLayer) else r for r in self.readers),
            size=len(self.owner),
            observed=observed[observed > ALWAYS],
            fixed=self.fixed,
            joined=self.joined,
            follows=self.follows,
            tied=tuple(self.tied),
            summed=tuple(self.summed),
            blocks=self.blocks,
            repeated=frozenset(self.again),
            other_params=sum(p.numel() for name, p in _used(graph).items() if name.rpartition(".")[0] not in covered),
        )

    def _sealed(self, site: WeightedLayer) -> WeightedLayer:
        """A layer that runs more than once reads whole tensors, the zeros of padding too."""
        return replace(site, reads=np.full_like(site.reads, ALWAYS)) if site.name in self.again else site


def _used(graph: torch.fx.GraphModule) -> dict[str, nn.Parameter]:
    """The parameters that a forward pass reads: auxiliary heads, which only training runs, have none of them."""
    calls = tuple(f"{node.target}." for node in graph.graph.nodes if node.op == "call_module")
    attributes = {str(node.target) for node in graph.graph.nodes if node.op == "get_attr"}
    return {name: p for name, p in graph.named_parameters() if name.startswith(calls) or name in attributes}
