"""Compact networks: what a masked network computes, in tensors as small as what is left of it."""

from __future__ import annotations

import copy
import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.fx
from torch import Tensor, nn
from torch.nn import functional as F

from fpgm_core.graph import overlay
from fpgm_core.graph.cost import live_sources, read_channels
from fpgm_core.graph.flow import ALWAYS, Flow, Norm, Value, WeightedLayer, is_in_place
from fpgm_core.pruning.masked import masked_tensors


def compact_module(
    module: nn.Module, flow: Flow, keep_masks: Mapping[str, np.ndarray], aligned: bool = False
) -> torch.fx.GraphModule:
    """A new, ordinary module that equals the masked network and holds only what is live.

    It has tensors of its own, the names of the original's layers, and an index buffer wherever channels
    are placed anew: in a sum of streams that kept different channels, a shuffle, a slice.
    `aligned` keeps the same function but lets the writers of a sum carry each other's channels, as zeros:
    more arithmetic than is counted, but nothing to place, which is often quicker.

    Raises FpgmError where the masks leave nothing that reaches a layer.
    """
    live = live_sources(flow, keep_masks)
    carried = carried_sources(flow, live) if aligned else live
    return _Rebuilder(module, flow, masked_tensors(module, flow, keep_masks), carried).run()


class _Rebuilder:
    """One walk over the traced graph that writes the compact one beside it.

    `_made` maps a dense node's name to the compact one, None where no channel of it is left; `_present`
    to the dense channels that the compact tensor holds, in its order: not always the dense one, since a
    sum is cheapest where a narrow operand's channels come first.
    """

    def __init__(self, module: nn.Module, flow: Flow, tensors: Mapping[str, Tensor], carried: np.ndarray) -> None:
        self._module = module
        self._flow = flow
        self._carried = carried
        self._state = {
            **dict(module.named_parameters(remove_duplicate=False)),
            **dict(module.named_buffers(remove_duplicate=False)),
            **tensors,
        }
        self._sites = {site.name: site for site in flow.sites}
        self._norms = {norm.name: norm for norm in flow.norms}
        self._graph = torch.fx.Graph()
        self._modules = dict(flow.graph.named_modules())
        self._nodes = {node.name: node for node in flow.graph.graph.nodes}
        self._numbers: list[torch.fx.Node] = []
        self._root: dict[str, Any] = {}
        self._made: dict[str, torch.fx.Node | None] = {}
        self._present: dict[str, np.ndarray] = {}

    def run(self) -> torch.fx.GraphModule:
        for node in self._flow.graph.graph.nodes:
            value = self._flow.values.get(node.name)
            if value is None:
                made = self._copy(node)
                self._numbers += [made] * (node.op != "output")
            else:
                self._made[node.name] = self._emit(node, value)
            if node.all_input_nodes and is_in_place(self._modules, node):
                first = node.all_input_nodes[0].name
                if node.name in self._present:
                    self._made[first], self._present[first] = self._made[node.name], self._present[node.name]
        for made in reversed(self._numbers):  # sizes that nothing asks for any more
            if not made.users:
                self._graph.erase_node(made)
        built = torch.fx.GraphModule(self._root, self._graph, type(self._module).__name__)
        built.delete_all_unused_submodules()
        return built.train(self._module.training)

    def _emit(self, node: torch.fx.Node, value: Value) -> torch.fx.Node | None:
        self._present[node.name] = self._live(value)
        if value.how == "view":
            return None  # whoever puts the channels back into one dimension takes them from the base
        if value.how == "opaque" or self._runs_again(node):
            self._present[node.name] = np.arange(value.sources.shape[1])
            return self._copy(node)
        return getattr(self, f"_{value.how}")(node, value)

    def _live(self, value: Value) -> np.ndarray:
        """The channels of a value that are carried, in the dense network's order."""
        return np.flatnonzero(self._carried[value.sources].any(0))

    def _runs_again(self, node: torch.fx.Node) -> bool:
        return node.op == "call_module" and str(node.target) in self._flow.repeated

    def _copy(self, node: torch.fx.Node) -> torch.fx.Node:
        """The operation as it is, on whole tensors: of what it reads every channel is live, or padding."""
        if node.op == "call_module":
            self._root.setdefault(str(node.target), self._own(str(node.target)))
        elif node.op == "get_attr":
            self._root.setdefault(str(node.target), self._tensor(str(node.target)))
        made = self._graph.node_copy(node, self._whole)
        self._made[node.name] = made
        return made

    def _tensor(self, name: str) -> Tensor:
        """A copy of a tensor that the forward reads by name."""
        return copy.deepcopy(self._state[name] if name in self._state else self._flow.constants[name])

    def _own(self, name: str) -> nn.Module:
        """A copy of one of the network's modules, with the masked network's tensors."""
        prefix = f"{name}."
        tensors = {key.removeprefix(prefix): t for key, t in self._state.items() if key.startswith(prefix)}
        return copy.deepcopy(overlay(self._module.get_submodule(name), tensors))

    def _whole(self, node: torch.fx.Node) -> torch.fx.Node:
        """A dense node's tensor with all its channels, zeros where they are absent."""
        value = self._flow.values.get(node.name)
        if value is None or value.how == "opaque":
            made = self._made[node.name]
            assert made is not None
            return made
        if value.how == "view":
            return self._graph.node_copy(node, self._whole)
        whole = self._placed(node, np.arange(value.sources.shape[1]))
        assert whole is not None
        return whole

    def _placed(self, node: torch.fx.Node, wanted: np.ndarray) -> torch.fx.Node | None:
        """A dense node's compact tensor, with exactly the `wanted` dense channels, in that order."""
        return self._place(self._made[node.name], self._present[node.name], wanted, node)

    def _place(
        self, made: torch.fx.Node | None, present: np.ndarray, wanted: np.ndarray, like: torch.fx.Node
    ) -> torch.fx.Node | None:
        """Take the `wanted` channels of a tensor that holds `present`; -1 and what it lacks become zeros."""
        if made is None or not len(wanted) or np.array_equal(present, wanted):
            return made if len(wanted) else None
        where = np.full(max(int(present.max()), int(wanted.max())) + 1, len(present))
        where[present] = np.arange(len(present))
        index = np.where(wanted < 0, len(present), where[wanted])
        dim, rank = self._flow.values[like.name].dim, len(like.meta["shape"])
        before = (0, 0) * (rank - 1 - dim)
        if np.array_equal(index, np.minimum(np.arange(len(index)), len(present))):  # zeros behind what is there
            return self._graph.call_function(F.pad, (made, (*before, 0, len(index) - len(present))))
        if (index == len(present)).any():  # one channel of zeros behind the others, for all that lack
            made = self._graph.call_function(F.pad, (made, (*before, 0, 1)))
        name = f"channels_{sum(key.startswith('channels_') for key in self._root)}"
        self._root[name] = torch.from_numpy(index.astype(np.int64))
        return self._graph.call_function(torch.index_select, (made, dim, self._graph.get_attr(name)))

    def _one_input(self, node: torch.fx.Node) -> torch.fx.Node:
        return next(source for source in node.all_input_nodes if source.name in self._flow.values)

    def _keep(self, node: torch.fx.Node, value: Value) -> torch.fx.Node | None:
        if node.op == "placeholder":
            return self._graph.node_copy(node)
        source = self._one_input(node).name
        self._present[node.name] = self._present[source]
        if self._made[source] is None:
            return None
        if node.op == "call_module":
            self._root.setdefault(str(node.target), self._own(str(node.target)))
        return self._graph.node_copy(node, lambda source: self._made[source.name])

    def _same(self, node: torch.fx.Node, value: Value) -> torch.fx.Node | None:
        source = self._one_input(node).name
        self._present[node.name] = self._present[source]
        return self._made[source]

    def _site(self, node: torch.fx.Node, value: Value) -> torch.fx.Node | None:
        name = str(node.target)
        site = self._sites[name]
        rows = np.arange(site.outputs)
        if site.filter_offset >= 0:
            rows = np.flatnonzero(self._carried[site.filter_offset : site.filter_offset + site.outputs])
        columns, source = self._read(self._one_input(node), site)
        if source is None or not len(rows):
            return None
        self._root[name] = self._narrowed(site, rows, columns)
        return self._graph.call_module(name, (source,))

    def _read(self, source: torch.fx.Node, site: WeightedLayer) -> tuple[np.ndarray, torch.fx.Node | None]:
        """Which input channels a layer still reads, and the tensor that holds exactly them."""
        if (site.reads == ALWAYS).all():  # the image, or what could not be followed
            return np.arange(site.reads.shape[1]), self._whole(source)
        read = self._carried[site.reads].any(0) & read_channels(site, self._carried)
        there = self._present[source.name]
        columns = np.flatnonzero(read) if site.groups > 1 else there[read[there]]  # groups lie in order
        return columns, self._placed(source, columns)

    def _narrowed(self, site: WeightedLayer, rows: np.ndarray, columns: np.ndarray) -> nn.Module:
        """A new convolution or Linear layer with these filters (rows) of these input channels (columns)."""
        dense = self._module.get_submodule(site.name)
        assert isinstance(dense, (nn.Conv2d, nn.Linear))
        per_group, height = site.reads.shape[1] // site.groups, site.outputs // site.groups
        left, sizes = np.unique(columns // per_group, return_counts=True)
        groups = len(left)
        assert len(set(sizes)) == 1, f"{site.name}: groups of different size"
        # Of a grouped convolution each filter's own group's channels, by their places in that group.
        assert np.isin(rows // height, left).all(), f"{site.name}: filters that read nothing"
        within = (columns % per_group).reshape(groups, -1)[np.searchsorted(left, rows // height)]
        weight = self._state[f"{site.name}.weight"].detach()
        chosen = weight[torch.from_numpy(rows)[:, None], torch.from_numpy(within)]
        built = overlay(dense, {})  # not the class: it would draw weights first
        if isinstance(built, nn.Linear):
            built.in_features, built.out_features = len(columns), len(rows)
        else:
            assert isinstance(built, nn.Conv2d)
            built.in_channels, built.out_channels, built.groups = len(columns), len(rows), groups
        built.weight = _parameter(chosen, dense.weight)
        if site.has_bias:
            built.bias = _parameter(self._state[f"{site.name}.bias"].detach()[torch.from_numpy(rows)], dense.weight)
        return built

    def _norm(self, node: torch.fx.Node, value: Value) -> torch.fx.Node | None:
        name = str(node.target)
        there, live = self._present[self._one_input(node).name], self._present[node.name]
        channels = there if len(there) == len(live) else live  # of padding a norm makes something
        self._present[node.name] = channels
        source = self._placed(self._one_input(node), channels)
        if source is None:
            return None
        self._root[name] = self._narrowed_norm(self._norms[name], torch.from_numpy(channels))
        return self._graph.call_module(name, (source,))

    def _narrowed_norm(self, norm: Norm, channels: Tensor) -> nn.Module:
        dense = self._module.get_submodule(norm.name)
        assert isinstance(dense, nn.BatchNorm2d)
        built = overlay(dense, {})  # not copy.copy: it would share the hooks
        assert isinstance(built, nn.BatchNorm2d)
        built.num_features = len(channels)
        built._parameters = {
            name: None if p is None else _parameter(self._state[f"{norm.name}.{name}"].detach()[channels], p)
            for name, p in dense._parameters.items()
        }
        built._buffers = {
            name: b if b is None else self._state[f"{norm.name}.{name}"][channels] if b.ndim else b.clone()
            for name, b in dense._buffers.items()
        }
        return built

    def _sum(self, node: torch.fx.Node, value: Value) -> torch.fx.Node | None:
        operands = self._operands(node)
        if any(self._flow.values[source.name].dim != value.dim for source in operands):  # one was not followed
            self._present[node.name] = np.arange(value.sources.shape[1])
            return self._graph.call_function(operator.add, tuple(self._whole(source) for source in operands))
        wider, other = sorted((self._present[source.name] for source in operands), key=len, reverse=True)
        self._present[node.name] = np.concatenate([wider, np.setdiff1d(other, wider)])
        parts = [self._placed(source, self._present[node.name]) for source in operands]
        left = [part for part in parts if part is not None]
        if len(left) == 1:  # a sum makes a tensor of its own, which what follows may change in place
            return self._graph.call_function(torch.clone, (left[0],))
        return self._graph.call_function(operator.add, tuple(left)) if left else None

    def _operands(self, node: torch.fx.Node) -> list[torch.fx.Node]:
        return [source for source in node.all_input_nodes if source.name in self._flow.values]

    def _gate(self, node: torch.fx.Node, value: Value) -> torch.fx.Node | None:
        one, other = self._operands(node)
        both = self._present[one.name][np.isin(self._present[one.name], self._present[other.name])]
        self._present[node.name] = both
        parts = [self._placed(source, both) for source in (one, other)]
        return None if None in parts else self._graph.call_function(operator.mul, tuple(parts))

    def _cat(self, node: torch.fx.Node, value: Value) -> torch.fx.Node | None:
        parts: Any = node.args[0] if node.args else node.kwargs["tensors"]
        left, present, begin = [], [], 0
        for part in parts:
            made = self._made[part.name]
            if made is not None:
                left.append(made)
                present.append(begin + self._present[part.name])
            begin += self._flow.values[part.name].sources.shape[1]
        self._present[node.name] = np.concatenate(present) if present else np.zeros(0, dtype=int)
        return self._graph.call_function(torch.cat, (left, value.dim)) if left else None

    def _flatten(self, node: torch.fx.Node, value: Value) -> torch.fx.Node | None:
        source = self._one_input(node).name
        each = value.sources.shape[1] // self._flow.values[source].sources.shape[1]  # features a channel
        self._present[node.name] = (self._present[source][:, None] * each + np.arange(each)).ravel()
        made = self._made[source]
        return None if made is None else self._graph.call_function(torch.flatten, (made, 1))

    def _gather(self, node: torch.fx.Node, value: Value) -> torch.fx.Node | None:
        assert value.index is not None
        base, wanted = self._nodes[value.base], value.index[self._live(value)]
        made = self._made[base.name]
        if made is None or not len(wanted):
            return None
        everything = np.arange(self._flow.values[base.name].sources.shape[1])
        if np.array_equal(self._present[base.name], everything):  # as it is: what shares memory goes on sharing it
            return self._kept_view(node)
        cut = self._cut_or_pad(node, made)
        taken = self._place(cut, self._present[base.name], wanted, base)
        # What follows may change its tensor in place, and must not change the base.
        return self._graph.call_function(torch.clone, (made,)) if taken is made else taken

    def _kept_view(self, node: torch.fx.Node) -> torch.fx.Node:
        """A slice, padding, chunk or shuffle of a whole tensor, as the dense network does it."""
        self._present[node.name] = np.arange(self._flow.values[node.name].sources.shape[1])
        return self._graph.node_copy(node, self._whole)

    def _cut_or_pad(self, node: torch.fx.Node, made: torch.fx.Node) -> torch.fx.Node:
        """What a slice or a padding does to positions, without what it does to channels."""
        if node.target is operator.getitem and isinstance(node.args[1], tuple):
            index = tuple(slice(None) if i == 1 else part for i, part in enumerate(node.args[1]))
            return self._graph.call_function(operator.getitem, (made, index)) if set(map(str, index)) - {_ALL} else made
        if node.target is F.pad:
            amounts = tuple(node.args[1] if len(node.args) > 1 else node.kwargs["pad"])[:4]  # type: ignore[arg-type]
            return self._graph.call_function(F.pad, (made, amounts)) if any(amounts) else made
        return made


_ALL = str(slice(None))


def _parameter(tensor: Tensor, like: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.clone(), requires_grad=like.requires_grad)


def carried_sources(flow: Flow, live: np.ndarray) -> np.ndarray:
    """The live sources, and the absent ones that write to channels of a sum which others write."""
    carried, size, plain = live.copy(), _layer_sizes(flow), _plain_filters(flow)
    sums = [value.sources for value in flow.values.values() if value.how == "sum"]
    before = -1
    while before != (before := int(carried.sum())):
        for sources in sums:
            # What comes padded from a narrower stream stays as narrow as it is.
            may = plain[sources] & (size[sources] == sources.shape[1])
            carried[sources[may & carried[sources].any(0)]] = True
    return carried


def _layer_sizes(flow: Flow) -> np.ndarray:
    """For every source the number of filters of its layer, 0 where it has none."""
    sizes = np.zeros(flow.size + 1, dtype=int)
    for site in flow.convs:
        if site.filter_offset >= 0:
            sizes[site.filter_offset : site.filter_offset + site.outputs] = site.outputs
    return sizes


def _plain_filters(flow: Flow) -> np.ndarray:
    """Filters that may stay as zeros, bool: of ordinary convolutions whose readers do not count channels."""
    plain = np.zeros(flow.size + 1, dtype=bool)
    tied = {name for pair in flow.tied for name in pair}
    for site in flow.convs:
        if site.filter_offset >= 0 and site.groups == 1 and site.name not in {*tied, *flow.blocks, *flow.follows}:
            plain[site.filter_offset : site.filter_offset + site.outputs] = True
    for reader in flow.readers:
        if not isinstance(reader, WeightedLayer) or reader.groups > 1:
            plain[reader.reads[reader.reads > ALWAYS]] = False
    return plain
