"""The forms that a sum of streams can take where they kept different channels, as under independent plans.

A compact network places each operand onto the channels of the sum: a channel of zeros is put behind what is there, and
one gather takes every channel from its place. Here are the other ways to compute the same, to be timed beside it.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule, Node
from torch.nn import functional as F

from fpgm_core.pruning import PrunedNetwork
from fpgm_core.runtime.progress import Work
from fpgm_core.timing.engine import TimingConfig, Timings
from fpgm_core.timing.latency import DENSE, formed_work
from fpgm_core.timing.runtimes import Form, Target

GATHERED, CARRIED, ZERO_WRITTEN, SCATTERED = "gathered", "carried", "zero_written", "scattered"
PLACINGS = {
    GATHERED: "a channel of zeros is appended, and a gather places all",
    CARRIED: "writers of a sum carry each other's channels, as zeros: compact(aligned=True)",
    ZERO_WRITTEN: "the writer's last filter writes the zeros, and a gather places all",
    SCATTERED: "what is there is added to the sum's channels by index",
}


def placings(pruned: PrunedNetwork) -> dict[str, GraphModule]:
    """A compact network in every one of `PLACINGS`, in eval mode: they compute the same."""
    plain = pruned.compact().eval()
    return {
        GATHERED: plain,
        CARRIED: pruned.compact(aligned=True).eval(),
        ZERO_WRITTEN: _rewritten(plain, _write_zeros),
        SCATTERED: _rewritten(plain, _scatter),
    }


def placings_work(pruned: PrunedNetwork, *, target: Target, config: TimingConfig | None = None) -> Work[Timings]:
    """Time all `PLACINGS` of a pruned network in turns, the dense network among them."""
    shape = pruned.network.input_shape
    modules = {**placings(pruned), DENSE: pruned.network.prune(0.0).compact().eval()}
    return (yield from formed_work({name: Form.of(one, shape) for name, one in modules.items()}, shape, target, config))


def _rewritten(module: GraphModule, rewrite: Callable[[GraphModule, Node, Node, int], None]) -> GraphModule:
    """A copy with every operand of a sum that is padded and gathered given to `rewrite`: the sum, it, its number."""
    made = copy.deepcopy(module)
    found = [
        (node, operand)
        for node in made.graph.nodes
        if node.op == "call_function" and node.target in (operator.add, torch.add)
        for operand in [one for one in node.args if _is_placed(one)][:1]  # the other stays what it is added to
    ]
    for number, (node, operand) in enumerate(found):
        rewrite(made, node, operand, number)
    made.graph.eliminate_dead_code()
    made.recompile()
    return made.eval()


def _is_placed(operand: Any) -> bool:
    """Whether a sum's operand is a gather, by channel, of a tensor with zeros behind it."""
    if not isinstance(operand, Node) or operand.target is not torch.index_select or operand.args[1] != 1:
        return False
    padded = operand.args[0]
    return isinstance(padded, Node) and padded.target is F.pad and len(operand.users) == 1


def _sources(operand: Node) -> tuple[Node, torch.Tensor]:
    """What a placed operand is made of, and the channel of it, or of the zeros behind it, that each of its own is."""
    padded: Any = operand.args[0]
    index: Any = operand.args[2]
    return padded.args[0], getattr(operand.graph.owning_module, index.target)


def _scatter(module: GraphModule, node: Node, operand: Node, number: int) -> None:
    """sum = other.index_add(1, places, operand)."""
    source, index = _sources(operand)
    other: Any = next(one for one in node.args if one is not operand)
    present = int(index.max())  # the zeros come last
    places = torch.empty(present, dtype=torch.int64)
    there = index < present
    places[index[there]] = torch.arange(len(index))[there]
    name = f"places_{number}"
    module.register_buffer(name, places)
    with module.graph.inserting_before(node):
        added = module.graph.call_function(torch.index_add, (other, 1, module.graph.get_attr(name), source))
    node.replace_all_uses_with(added)
    module.graph.erase_node(node)


def _write_zeros(module: GraphModule, node: Node, operand: Node, number: int) -> None:
    """The convolution and norm that write the operand get one filter more, all zeros, in place of padding."""
    source, _ = _sources(operand)
    layers = _written_by(module, source)
    if layers is None:
        return
    conv, norm = layers
    conv.weight = nn.Parameter(torch.cat([conv.weight.data, torch.zeros_like(conv.weight.data[:1])]))
    conv.out_channels += 1
    if conv.bias is not None:
        conv.bias = nn.Parameter(_longer(conv.bias.data, 0.0))
    norm.weight, norm.bias = (nn.Parameter(_longer(one.data, 0.0)) for one in (norm.weight, norm.bias))
    norm.running_mean, norm.running_var = _longer(norm.running_mean, 0.0), _longer(norm.running_var, 1.0)
    norm.num_features += 1
    padded: Any = operand.args[0]
    padded.replace_all_uses_with(source)


def _longer(tensor: torch.Tensor, last: float) -> torch.Tensor:
    return torch.cat([tensor, tensor.new_full((1,), last)])


def _written_by(module: GraphModule, source: Node) -> tuple[Any, Any] | None:
    """The convolution and the norm behind it that write a tensor which the sum alone reads; None for anything else."""
    before: Sequence[Any] = source.args
    if source.op != "call_module" or len(source.users) != 1 or not isinstance(before[0], Node):
        return None
    conv = before[0]
    if conv.op != "call_module" or len(conv.users) != 1:
        return None
    layers = module.get_submodule(str(conv.target)), module.get_submodule(str(source.target))
    plain = isinstance(layers[0], nn.Conv2d) and isinstance(layers[1], nn.BatchNorm2d)
    return layers if plain and layers[0].groups == 1 and layers[1].affine else None
