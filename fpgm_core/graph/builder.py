"""What a walk over the traced network gathers, until it is sealed as a Flow."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.fx
from torch import nn
from torch.fx.node import map_arg

from fpgm_core.graph.flow import (
    ALWAYS,
    NEVER,
    BatchNormLayer,
    ChannelTensor,
    Flow,
    Gate,
    JointNorm,
    Known,
    Product,
    Value,
    WeightedLayer,
)
from fpgm_core.graph.operations.base import operation_of, written_operand
from fpgm_core.graph.operations.shapes import as_laid_out

# What makes the same of the same numbers, as indices are made.
_TELLS = re.compile(r"arange|reshape|view|flatten|(un)?squeeze|flip|roll|long|int|add|sub|mul|floordiv|mod")


@dataclass
class Builder:
    """The state of one walk over the graph."""

    graph: torch.fx.GraphModule
    held: Mapping[str, torch.Tensor] = field(default_factory=dict)  # tensors that are no parameters, with their numbers
    values: dict[str, Known] = field(default_factory=dict)
    sites: list[WeightedLayer] = field(default_factory=list)
    batch_norms: list[BatchNormLayer] = field(default_factory=list)
    channel_tensors: list[ChannelTensor] = field(default_factory=list)
    readers: list[WeightedLayer | Gate | Product | JointNorm] = field(default_factory=list)
    owner: list[str] = field(default_factory=lambda: [""])  # global filter index -> layer name
    fixed: dict[str, str] = field(default_factory=dict)
    joins: list[tuple[str, str, bool]] = field(default_factory=list)  # layer, reason, whether by a split alone
    follows: dict[str, str] = field(default_factory=dict)
    together: dict[str, str] = field(default_factory=dict)
    tied: list[tuple[str, str]] = field(default_factory=list)
    summed: list[tuple[str, str]] = field(default_factory=list)
    blocks: dict[str, int] = field(default_factory=dict)
    copies: dict[str, int] = field(default_factory=dict)
    observed: list[np.ndarray] = field(default_factory=list)
    products: dict[int, Product] = field(default_factory=dict)  # by each source that they make
    again: set[str] = field(default_factory=set)  # layers that cannot be refitted, norms that cannot be folded
    functional: set[str] = field(default_factory=set)  # modules whose parameters a function is called with
    unlike: set[str] = field(default_factory=set)  # norms that run more than once, on different channels
    other_macs: dict[str, int] = field(default_factory=dict)
    by_channel: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        nodes = list(self.graph.graph.nodes)
        self.modules: Mapping[str, nn.Module] = dict(self.graph.named_modules(remove_duplicate=False))
        self.parameters = dict(self.graph.named_parameters(remove_duplicate=False))
        self._order = {node: place for place, node in enumerate(nodes)}
        self._nodes = {node.name: node for node in nodes}
        self._by_name = Counter(str(node.target) for node in nodes if node.op == "get_attr" and node.users)

    def node(self, name: str) -> torch.fx.Node:
        """The node of that name."""
        return self._nodes[name]

    def with_numbers(self, index: Any) -> Any:
        """An index in which what no image decides is said: numbers, and tensors by the whole numbers that they list."""

        def numbers(part: Any) -> Any:
            if isinstance(part, slice):
                return slice(*map(numbers, (part.start, part.stop, part.step)))
            if isinstance(part, tuple):
                return list(part)
            value = self._constant(part)
            if not isinstance(value, torch.Tensor):
                return part if value is None else value
            if value.ndim != 1 or value.is_floating_point():
                return part
            return (value.nonzero().flatten() if value.dtype == torch.bool else value).tolist()

        return tuple(map(numbers, index)) if isinstance(index, tuple) else numbers(index)

    def _constant(self, part: Any) -> Any:
        """A number, or a tensor that is made of nothing but numbers and tensors that are held; else None."""
        if not isinstance(part, torch.fx.Node):
            return part
        if "number" in part.meta:
            return part.meta["number"]
        if part.op == "get_attr":
            return self.held.get(str(part.target))
        if not _TELLS.fullmatch(str(getattr(part.target, "__name__", part.target))):
            return None
        args: Any = map_arg(part.args, self._constant)
        kwargs: Any = map_arg({key: value for key, value in part.kwargs.items() if key != "device"}, self._constant)
        if any(self._constant(one) is None for one in part.all_input_nodes if one is not part.kwargs.get("device")):
            return None
        return (
            part.target(*args, **kwargs)
            if callable(part.target)
            else getattr(args[0], part.target)(*args[1:], **kwargs)
        )

    def reads_of(self, name: str) -> int:
        """How often the forward reads a tensor by its name."""
        return self._by_name[name]

    def of(self, node: torch.fx.Node) -> Known:
        """What is known of a node's tensor."""
        return self.values[node.name]

    def lay_out(self, node: torch.fx.Node, source: torch.fx.Node, dim: int) -> torch.fx.Node:
        """Have a node read its operand with the channels along one dimension; a node in between says so."""
        with self.graph.graph.inserting_before(node):
            made = self.graph.graph.call_function(as_laid_out, (source, dim))
        made.meta["shape"] = source.meta["shape"]
        node.replace_input_with(source, made)
        self._order[made] = self._order[node]
        known, operation = self.of(source), operation_of(self.modules, made)
        assert isinstance(known, Value)
        assert operation is not None
        self.values[made.name] = operation.propagate(self, made, [known])
        return made

    def changes_what_others_read(self, node: torch.fx.Node) -> bool:
        """Whether an operation writes into memory that another tensor shares, and that is read as that one later."""
        changed = written_operand(self.modules, node)
        if changed is None:
            return False
        return any(self._order[user] > self._order[node] for one in self._aliases(changed) for user in one.users)

    def _aliases(self, node: torch.fx.Node) -> set[torch.fx.Node]:
        """The nodes whose memory a node's result may share, itself among them."""
        found, ahead = set[torch.fx.Node](), [node]
        while ahead:
            current = ahead.pop()
            if current not in found:
                found.add(current)
                ahead += self._shared(current)
                ahead += [user for user in current.users if user.name in self.values and current in self._shared(user)]
        return found

    def _shared(self, node: torch.fx.Node) -> list[torch.fx.Node]:
        """The operand whose memory a node's result may be."""
        changed = written_operand(self.modules, node)
        if changed is not None:
            return [changed]
        operation = operation_of(self.modules, node)
        return node.all_input_nodes[:1] if operation is not None and operation.shares_memory else []

    def site(self, name: str) -> WeightedLayer:
        """The site of that name."""
        return next(site for site in self.sites if site.name == name)

    def add_site(self, site: WeightedLayer) -> None:
        """Note a convolution or Linear layer, and the filters it brings."""
        again = self.ran(site.name)
        if again:
            self._run_again(site)
        self.sites.append(site)
        self.readers.append(site)
        if site.filter_offset >= 0 and not again:
            self.owner.extend([site.name] * site.outputs)

    def add_product(self, reads: tuple[np.ndarray, ...]) -> np.ndarray:
        """Note a product of streams with the channels of `reads`, (S, C) each; the sources it makes, (1, C)."""
        product = Product(reads, len(self.owner))
        self.readers.append(product)
        self.owner.extend([""] * reads[0].shape[1])
        own = np.arange(product.filter_offset, len(self.owner))
        self.products.update({int(source): product for source in own})
        return own[None]

    def filters(self, sources: np.ndarray) -> np.ndarray:
        """The filters of layers behind some sources, through products: sorted, without ALWAYS and NEVER."""
        found, ahead = set[int](), set(map(int, np.unique(sources[sources > ALWAYS])))
        while ahead:
            source = ahead.pop()
            product = self.products.get(source)
            if product is None:
                found.add(source)
            else:
                behind = [reads[:, source - product.filter_offset] for reads in product.reads]
                ahead |= {int(i) for i in np.concatenate(behind) if i > ALWAYS}
        return np.array(sorted(found), dtype=int)

    def writers(self, sources: np.ndarray) -> list[str]:
        """The layers with a filter among the sources, in order."""
        return list(dict.fromkeys(self.owner[i] for i in self.filters(sources)))

    def observe(self, sources: np.ndarray) -> None:
        """Something that is not followed reads these channels, and zeros where they are absent."""
        self.observed += [sources.ravel(), self.filters(sources)]

    def fix(self, sources: np.ndarray, reason: str) -> None:
        """No coupling may prune what writes these channels."""
        self.observe(sources)
        for name in self.writers(sources):
            if name not in self.fixed:
                self.fixed[name] = reason
                site = self.site(name)
                if site.groups > 1:  # what it reads one by one, or in groups, its filters would vanish with
                    self.fix(site.reads, f"it feeds {name}, which is fixed: {reason}")

    def join(self, sources: np.ndarray, reason: str) -> None:
        """`inner` may not prune what writes these channels."""
        self.joins += [(name, reason, False) for name in self.writers(sources)]

    def deal(self, sources: np.ndarray, reason: str) -> None:
        """`inner` may not prune what writes these channels, unless the same ones leave of every part."""
        self.joins += [(name, reason, True) for name in self.writers(sources)]

    def keep_alike(self, layer: str, copies: int) -> None:
        """Of so many equal parts of a layer's filters the same ones must leave."""
        self.copies[layer] = math.lcm(self.copies.get(layer, 1), copies)
        self.blocks[layer] = math.lcm(self.blocks.get(layer, 1), copies)

    def positions(self, layer: str, sources: np.ndarray) -> tuple[int, ...] | None:
        """At which channel each filter of a layer writes; None where some write nowhere, or at several."""
        site, plain = self.site(layer), self._through_products(sources)
        at = np.argwhere((plain >= site.filter_offset) & (plain < site.filter_offset + site.outputs))
        filters = plain[tuple(at.T)] - site.filter_offset
        if sorted(filters) != list(range(site.outputs)):
            return None
        return tuple(int(c) for c in at[np.argsort(filters), 1])

    def _through_products(self, sources: np.ndarray) -> np.ndarray:
        """The sources, with the filters behind a product in its place."""
        if not self.products or not np.isin(sources, list(self.products)).any():
            return sources
        columns = [self.filters(sources[:, channel]) for channel in range(sources.shape[1])]
        plain = np.full((max(map(len, columns)), len(columns)), NEVER)
        for channel, filters in enumerate(columns):
            plain[: len(filters), channel] = filters
        return plain

    def ran(self, name: str) -> bool:
        """Whether a layer ran before."""
        return any(site.name == name for site in self.sites)

    def next_filter(self, name: str) -> int:
        """The global index of a layer's filter 0: what it was, where the layer ran before."""
        return self.site(name).filter_offset if self.ran(name) else len(self.owner)

    def _run_again(self, site: WeightedLayer) -> None:
        """A layer that runs more than once reads, in every call, what it reads in any: the same selection for all."""
        self.again.add(site.name)
        before = [other for other in self.sites if other.name == site.name]
        if all(_alike(other.reads, site.reads) for other in before):
            return
        reads = [other.reads for other in (*before, site)]
        if 1 < site.groups == site.outputs == site.reads.shape[1] and self.leave_alike(site.name, reads):
            return
        if site.groups > 1 or any(other.filter_offset != site.filter_offset for other in before):
            reason = f"{site.name} runs more than once in a forward pass, on different channels"
            for other in (*before, site):
                self.fix(other.reads, reason)
                if other.filter_offset >= 0:
                    self.fix(np.arange(other.filter_offset, other.filter_offset + other.outputs), reason)
            return
        together: dict[tuple[int, ...], str] = {}
        for other in (*before, site):
            self.join(other.reads, f"its channels meet others in {site.name}, which runs more than once")
            for layer in self.writers(other.reads):
                at = self.positions(layer, other.reads)
                if at is not None and together.setdefault(at, layer) != layer:
                    self.summed.append((together[at], layer))

    def leave_alike(self, name: str, reads: Sequence[np.ndarray]) -> bool:
        """Have the same channels leave in every call of a module that has something of its own for each of them.

        `reads` are those of its calls, (S, C) each. False where their writers cannot move together: some channels are
        always there, or stand in another order.
        """
        writers = [self.writers(sources) for sources in reads]
        places = [
            [self.positions(layer, sources) for layer in layers] for layers, sources in zip(writers, reads, strict=True)
        ]
        always = any((sources == ALWAYS).any() for sources in reads)
        if (
            always
            or not all(places)
            or any(None in found for found in places)
            or len({frozenset(p) for p in places}) > 1
        ):
            return False
        leaders: dict[Any, str] = {}
        for layers, found in zip(writers, places, strict=True):
            for layer, at in zip(layers, found, strict=True):
                if leaders.setdefault(at, layer) != layer:
                    self.summed.append((leaders[at], layer))
                reason = f"{name} runs more than once in a forward pass: the same channels must leave of every call"
                self.joins.append((layer, reason, False))
                self.together.setdefault(layer, reason)
        return True

    def norm_ran_before(self, name: str, sources: np.ndarray) -> bool:
        """Whether a norm ran before; from now on it reads these channels too."""
        place = next((i for i, norm in enumerate(self.batch_norms) if norm.name == name), None)
        if place is not None:
            norm = self.batch_norms[place]
            self.batch_norms[place] = replace(norm, reads=self._of_every_call(name, norm.reads, sources))
        return place is not None

    def joint_norm_ran_before(self, name: str, sources: np.ndarray) -> bool:
        """Whether a norm over several channels ran before; from now on it reads these channels too."""
        for place, norm in enumerate(self.readers):
            if isinstance(norm, JointNorm) and norm.name == name:
                self.readers[place] = JointNorm(name, self._of_every_call(name, norm.reads, sources))
                return True
        return False

    def _of_every_call(self, name: str, before: np.ndarray, sources: np.ndarray) -> np.ndarray:
        """What a norm reads in all its calls. Where these cannot leave alike, everything around it stays: `unlike`."""
        self.again.add(name)
        if _alike(before, sources):
            return before
        if not self.leave_alike(name, (before, sources)):
            self.unlike.add(name)
            for reads in (before, sources):
                self.fix(reads, f"{name} runs more than once in a forward pass, on different channels")
        return np.concatenate([before, sources])

    def add_channel_tensor(self, name: str, sources: np.ndarray, dim: int = 0, size: int = 1) -> None:
        """Note a parameter with `size` entries a channel, which leave where no call has the channel."""
        for place, known in enumerate(self.channel_tensors):
            if known.name == name:
                self.channel_tensors[place] = replace(known, reads=np.concatenate([known.reads, sources]))
                return
        self.channel_tensors.append(ChannelTensor(name, sources, dim, size))

    def flow(self, constants: Mapping[str, torch.Tensor]) -> Flow:
        """What the walk has found, sealed."""
        self._fix_what_is_read_by_name()
        observed = np.unique(np.concatenate([sources.ravel() for sources in self.observed]))
        sites: dict[int, WeightedLayer] = {id(site): self._sealed(site) for site in self.sites}
        return Flow(
            graph=self.graph,
            constants=constants,
            values={name: value for name, value in self.values.items() if value is not None},
            sites=tuple(sites.values()),
            batch_norms=tuple(
                replace(n, after=None) if {n.name, n.after} & self.again else n for n in self.batch_norms
            ),
            channel_tensors=tuple(self.channel_tensors),
            readers=tuple(sites[id(r)] if isinstance(r, WeightedLayer) else r for r in self.readers),
            size=len(self.owner),
            observed=observed[observed > ALWAYS],
            fixed=self.fixed,
            joined={n: why for n, why, dealt in reversed(self.joins) if not (dealt and n in self.copies)},
            follows=self.follows,
            together=self.together,
            tied=tuple(self.tied),
            summed=tuple(self.summed),
            blocks=self.blocks,
            copies=self.copies,
            repeated=frozenset(self.again),
            other_params=self._other_params(),
            other_macs=self.other_macs,
            by_channel={name: reads for name, reads in self.by_channel.items() if name in self.other_macs},
        )

    def _fix_what_is_read_by_name(self) -> None:
        """Layers whose weight the forward reads beside calling them stay whole: it would read other numbers."""
        read = {name.rpartition(".")[0] for name in self._by_name}
        items: list[WeightedLayer | BatchNormLayer] = [*self.sites, *self.batch_norms]
        for item in items:
            if item.name not in read or item.name in self.functional:
                continue
            reason = f"the forward reads the weight of {item.name} beside calling it"
            self.fix(item.reads, reason)
            if isinstance(item, WeightedLayer) and item.filter_offset >= 0:
                self.fix(np.arange(item.filter_offset, item.filter_offset + item.outputs), reason)

    def _other_params(self) -> int:
        """The parameters that a forward pass reads outside sites, norms and channel tensors."""
        covered = {site.name for site in self.sites} | {norm.name for norm in self.batch_norms}
        single = {one.name for one in self.channel_tensors}
        used = {name: p for name, p in _used(self.graph).items() if name not in single}
        return sum(p.numel() for name, p in used.items() if name.rpartition(".")[0] not in covered)

    def _sealed(self, site: WeightedLayer) -> WeightedLayer:
        """A layer that runs more than once reads in every call what it reads in any."""
        reads = [other.reads for other in self.sites if other.name == site.name]
        if len(reads) == 1 or all(_alike(other, site.reads) for other in reads):
            return site
        return replace(site, reads=np.concatenate(reads))


def _alike(first: np.ndarray, second: np.ndarray) -> bool:
    return first.shape == second.shape and bool((first == second).all())


def _used(graph: torch.fx.GraphModule) -> dict[str, nn.Parameter]:
    """The parameters that a forward pass reads: auxiliary heads, which only training runs, have none of them."""
    calls = tuple(f"{node.target}." for node in graph.graph.nodes if node.op == "call_module")
    attributes = {str(node.target) for node in graph.graph.nodes if node.op == "get_attr" and node.users}
    return {name: p for name, p in graph.named_parameters() if name.startswith(calls) or name in attributes}
