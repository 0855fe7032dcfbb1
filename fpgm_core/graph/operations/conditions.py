"""Comparisons, and choices between tensors element by element."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch.fx

from fpgm_core.graph.flow import Known, Value
from fpgm_core.graph.operations.arithmetic import Elementary, Multiplication, holds_channels, tensors_of
from fpgm_core.graph.operations.base import Rebuilt, argument, describe, shape_of
from fpgm_core.graph.operations.gates import same

if TYPE_CHECKING:
    from fpgm_core.graph.builder import Builder
    from fpgm_core.graph.rebuilder import Rebuilder

Node = torch.fx.Node


class Comparison(Multiplication):
    """x > y, of a tensor and a number or of tensors with the same channels: it can only choose among them, or weigh."""

    def propagate(self, walk: Builder, node: Node, inputs: list[Value]) -> Known:
        """The same channels."""
        met = self.met(walk, node, tensors_of(walk, node))
        if met is None:
            return None
        like, operands = met
        written = [one for one in operands if not one.value.unwritten]
        if any(one.side < like.channels or not same(one.value.sources, like.sources) for one in written):
            return None
        return Value(like.sources, like.dim, self, weighs=True, batch=like.batch)


class Choice(Elementary):
    """where and masked_fill: one tensor or another. `order` says where the condition and both choices stand."""

    def __init__(self, *order: int) -> None:
        super().__init__()
        self._order = order

    def propagate(self, walk: Builder, node: Node, inputs: list[Value]) -> Known:
        """A channel is absent where both choices are; a number that is not 0 is chosen for absent ones, too."""
        condition, *choices = self._given(node)
        tensors = [one for one in choices if isinstance(one, Node)]
        numbers = [one for one in choices if not isinstance(one, Node)]
        if not isinstance(condition, Node) or not all(isinstance(one, (int, float)) for one in numbers):
            return None
        asked = walk.of(condition)
        found = self.combined(walk, node, list(dict.fromkeys(tensors)), any(number != 0 for number in numbers))
        if found is None or not isinstance(asked, Value) or asked.spread:
            return None
        beside = found.dim - len(shape_of(node)) + len(shape_of(condition)) == asked.dim
        if not asked.unwritten and not (beside and same(asked.sources, found.sources)):
            walk.fix(asked.sources, f"it chooses among channels ({describe(walk, node)})")
        return replace(found, operation=self)

    def _given(self, node: Node) -> list[object]:
        names = ("condition", "input", "other") if self._order[0] == 0 else ("mask", "input", "value")
        return [argument(node, at, name) for at, name in zip(self._order, names, strict=True)]

    def rebuild(self, network: Rebuilder, node: Node, value: Value) -> Rebuilt:
        """Both choices on the channels that any of them holds, and the condition beside."""
        choices = [one for one in self._given(node)[1:] if isinstance(one, Node)]
        holding = [one for one in choices if holds_channels(network, one, node, value)]
        channels = np.arange(value.channels)
        if len(holding) == len(choices):
            channels = np.flatnonzero(np.isin(channels, np.concatenate([network.present(one) for one in holding])))
        if not len(channels):
            return None, channels
        parts = {one: self.beside(network, node, one, channels, value.dim) for one in network.operands(node)}
        empty = next((one for one, part in parts.items() if part is None), None)
        if empty is not None:  # of one choice nothing is left: zeros
            parts[empty] = network.call(torch.zeros_like, next(parts[one] for one in choices if parts[one] is not None))
        return self.copied(network, node, parts), channels
