"""Writing a compact network beside the traced one: what operations need to rebuild themselves."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.fx
from torch import Tensor, nn
from torch.nn import functional as F

from fpgm_core.graph.flow import ALWAYS, BatchNormLayer, ChannelTensor, Flow, JointNorm, Value, WeightedLayer
from fpgm_core.graph.operations.base import Rebuilt
from fpgm_core.graph.overlay import overlay

_PLACING = {F.pad, torch.index_select, "size", "new_zeros"}  # what is called to put channels where they are read


class Rebuilder:
    """One walk over the traced graph that writes the compact one beside it; operations rebuild themselves with it.

    `module` is the dense network, `tensors` what replaces its own, `carried` the sources, bool (flow.size + 1,), that
    compact tensors hold. A compact tensor holds the dense channels `present(node)`, in that order: not always the dense
    one, since a sum is cheapest where a narrow operand's channels come first.
    """

    def __init__(self, module: nn.Module, flow: Flow, tensors: Mapping[str, Tensor], carried: np.ndarray) -> None:
        self.carried = carried
        self.layers: Mapping[str, WeightedLayer] = {site.name: site for site in flow.sites}
        self.batch_norms: Mapping[str, BatchNormLayer] = {norm.name: norm for norm in flow.batch_norms}
        self.channel_tensors: Mapping[str, ChannelTensor] = {one.name: one for one in flow.channel_tensors}
        self._joint_norms: Mapping[str, JointNorm] = {norm.name: norm for norm in flow.joint_norms}
        self.modules = dict(flow.graph.named_modules())
        self._module, self._flow = module, flow
        self._state = {
            **dict(module.named_parameters(remove_duplicate=False)),
            **dict(module.named_buffers(remove_duplicate=False)),
            **tensors,
        }
        self._graph = torch.fx.Graph()
        self._nodes = {node.name: node for node in flow.graph.graph.nodes}
        self._numbers: set[torch.fx.Node] = set()
        self._root: dict[str, Any] = {}
        self._rebuilt: dict[str, Rebuilt] = {}

    def run(self) -> torch.fx.GraphModule:
        """The compact network."""
        for node in self._flow.graph.graph.nodes:
            known = self._flow.values.get(node.name)
            if known is None:
                made = self.copied(node, self.narrow if self._asks_how_many(node) else self.whole)
                self._rebuilt[node.name] = made, np.zeros(0, dtype=int)
                self._numbers.add(made)
            elif _taken_from_base(known):
                self._rebuilt[node.name] = None, np.zeros(0, dtype=int)
            else:
                self._rebuilt[node.name] = self._made(node, known[0] if isinstance(known, tuple) else known)
        self._graph.eliminate_dead_code(self._is_needed)
        built = torch.fx.GraphModule(self._root, self._graph, type(self._module).__name__)
        built.delete_all_unused_submodules()
        return built.train(self._module.training)

    def _is_needed(self, made: torch.fx.Node) -> bool:
        """Whether a compact node stays though nothing reads it: all but numbers, and what puts channels in place.

        A dead operation of the network's own stays: its multiply-adds are counted.
        """
        can_go = made.op == "get_attr" or made.target in _PLACING or made in self._numbers
        return made.op in ("placeholder", "output") or not can_go

    def _asks_how_many(self, node: torch.fx.Node) -> bool:
        """Whether a node is a size that pruning does not change: x.size(0), of a tensor of which something is left."""
        if node.op != "call_method" or node.target != "size" or len(node.args) != 2:
            return False
        source: Any = node.args[0]
        known, dim = self.known(source), node.args[1]
        if known is None or self.made(source) is None or not isinstance(dim, int):
            return False
        return dim % len(source.meta["shape"]) != known.dim

    def _made(self, node: torch.fx.Node, value: Value) -> Rebuilt:
        if node.op == "placeholder":
            return self._graph.node_copy(node), np.arange(value.channels)
        if value.operation is None:
            return self.copied(node, self.whole), np.arange(value.channels)
        return value.operation.rebuild(self, node, value)

    def known(self, node: torch.fx.Node) -> Value | None:
        """What is known of a node's tensor, None for a number and for several tensors."""
        known = self._flow.values.get(node.name)
        return known if isinstance(known, Value) else None

    def operands(self, node: torch.fx.Node) -> list[torch.fx.Node]:
        """The tensors that a node reads."""
        return [source for source in node.all_input_nodes if self._flow.values.get(source.name) is not None]

    def present(self, node: torch.fx.Node) -> np.ndarray:
        """The dense channels that a node's compact tensor holds, in its order."""
        return self._rebuilt[node.name][1]

    def made(self, node: torch.fx.Node) -> torch.fx.Node | None:
        """A node's compact one, None where none of its channels is left."""
        return self._rebuilt[node.name][0]

    def node(self, name: str) -> torch.fx.Node:
        """The traced network's node of that name."""
        return self._nodes[name]

    def live(self, value: Value) -> np.ndarray:
        """The channels of a value that are carried, in the dense network's order."""
        return np.flatnonzero(self.carried[value.sources].any(0))

    def of_every_call(self, name: str, channels: np.ndarray) -> np.ndarray:
        """The channels that a module with something of its own for each acts on: those of any call, in one order.

        `channels` are those of one call, which they are where it runs once.
        """
        known = self.batch_norms.get(name) or self._joint_norms.get(name) or self.channel_tensors.get(f"{name}.weight")
        if name not in self._flow.repeated or known is None:
            return channels
        return np.flatnonzero(self.carried[known.reads].any(0))

    def tensor(self, name: str) -> Tensor:
        """A parameter or buffer of the pruned network, in the dense network's shape."""
        return self._state[name] if name in self._state else self._flow.constants[name]

    def call(self, function: Callable[..., Any], *arguments: Any) -> torch.fx.Node:
        """A new call of a function."""
        return self._graph.call_function(function, arguments)

    def call_module(
        self, name: str, module: nn.Module, source: torch.fx.Node, *more: Any, **options: Any
    ) -> torch.fx.Node:
        """A call of a new module of that name; `more` and `options` are what it is told beside the tensor."""
        self._root[name] = module
        return self._graph.call_module(name, (source, *more), options)

    def replace_module(self, name: str, module: nn.Module) -> None:
        """Put another module in the place of one that is called."""
        self._root[name] = module

    def get(self, name: str, tensor: Tensor) -> torch.fx.Node:
        """A tensor of the compact network's own, by name."""
        self._root[name] = tensor
        return self._graph.get_attr(name)

    def new_name(self, stem: str) -> str:
        """A name that no tensor has yet."""
        return f"{stem}_{sum(key.startswith(f'{stem}_') for key in self._root)}"

    def copied(self, node: torch.fx.Node, argument: Callable[[torch.fx.Node], torch.fx.Node]) -> torch.fx.Node:
        """The operation as it is, on what `argument` makes of its operands."""
        name = str(node.target)
        if node.op == "call_module":
            self._root.setdefault(name, self.own(name))
        elif node.op == "get_attr":
            self._root.setdefault(name, copy.deepcopy(self.tensor(name)))
        return self._graph.node_copy(node, argument)

    def own(self, name: str) -> nn.Module:
        """A copy of one of the network's modules, with the pruned network's tensors."""
        prefix = f"{name}."
        tensors = {key.removeprefix(prefix): t for key, t in self._state.items() if key.startswith(prefix)}
        module, plain = self._module.get_submodule(name), self.modules[name]
        known = type(plain) is type(module)  # else somebody's own norm, which is that plain one
        return copy.deepcopy(overlay(module if known else plain, tensors))

    def dense(self, name: str) -> nn.Module:
        """One of the dense network's modules; copy it before changing it."""
        return self._module.get_submodule(name)

    def narrow(self, node: torch.fx.Node) -> torch.fx.Node:
        """What an operation that keeps channels reads: the compact tensor itself, or a number."""
        made = self.made(node)
        assert made is not None
        return made

    def whole(self, node: torch.fx.Node) -> torch.fx.Node:
        """A node's tensor with all its channels, zeros where they are absent."""
        known = self._flow.values.get(node.name)
        if isinstance(known, tuple):
            made, present = self._rebuilt[node.name]
            is_whole = made is not None and np.array_equal(present, np.arange(known[0].channels))
            return self.narrow(node) if is_whole else self.copied(node, self.whole)
        if known is None:
            return self.narrow(node)
        if known.spread:
            return self.copied(node, self.whole)
        placed = self.placed(node, np.arange(known.channels))
        return self._zeros(node) if placed is None else placed

    def _zeros(self, node: torch.fx.Node) -> torch.fx.Node:
        """A dense node's tensor of which no channel is left: zeros, for as many images as come in."""
        known, shape = self.known(node), list(node.meta["shape"])
        assert known is not None
        image = next(n for n in self._graph.nodes if n.op == "placeholder")
        images = self._graph.call_method("size", (image, 0))
        sizes: list[Any] = [images if i == known.batch else size for i, size in enumerate(shape)]
        return self._graph.call_method("new_zeros", (image, tuple(sizes)))

    def placed(self, node: torch.fx.Node, wanted: np.ndarray) -> torch.fx.Node | None:
        """A dense node's compact tensor with exactly the `wanted` dense channels, in that order.

        What it lacks, and -1, become zeros; None where nothing is left of it, or nothing wanted.
        """
        known = self.known(node)
        assert known is not None
        return self.place(self.made(node), self.present(node), wanted, known.dim, len(node.meta["shape"]))

    def place(
        self, made: torch.fx.Node | None, present: np.ndarray, wanted: np.ndarray, dim: int, rank: int
    ) -> torch.fx.Node | None:
        """Take the `wanted` channels, in dimension `dim` of `rank`, of a tensor that holds `present`."""
        if made is None or not len(wanted) or np.array_equal(present, wanted):
            return made if len(wanted) else None
        where = np.full(max(int(present.max()), int(wanted.max())) + 1, len(present))
        where[present] = np.arange(len(present))
        index = np.where(wanted < 0, len(present), where[wanted])
        before = (0, 0) * (rank - 1 - dim)
        if np.array_equal(index, np.minimum(np.arange(len(index)), len(present))):  # zeros behind what is there
            return self.call(F.pad, made, (*before, 0, len(index) - len(present)))
        if (index == len(present)).any():  # one channel of zeros behind the others, for all that lack
            made = self.call(F.pad, made, (*before, 0, 1))
        index_node = self.get(self.new_name("channels"), torch.from_numpy(index.astype(np.int64)))
        return self.call(torch.index_select, made, dim, index_node)

    def read(self, source: torch.fx.Node, site: WeightedLayer, read: np.ndarray) -> tuple[np.ndarray, Any]:
        """Which input channels a layer still reads, of those that it does (bool), and the tensor of exactly them."""
        if (site.reads == ALWAYS).all():  # the image, or what is not followed
            everything = np.arange(site.reads.shape[1])
            columns = everything if site.groups == 1 else np.flatnonzero(read)
            return columns, self.place(self.whole(source), everything, columns, 1, len(source.meta["shape"]))
        present = self.present(source)
        exact = site.groups == 1 and site.name not in self._flow.repeated and set(present) >= set(np.flatnonzero(read))
        columns = present[read[present]] if exact else np.flatnonzero(read)  # groups lie in order
        return columns, self.placed(source, columns)


def _taken_from_base(known: Value | tuple[Value, ...]) -> bool:
    """Whether nothing is called for such a result: whoever needs its channels takes them from its base."""
    return known[0].index is not None if isinstance(known, tuple) else known.spread
