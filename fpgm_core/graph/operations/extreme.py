"""torch.max and torch.min: of two tensors, or over a dimension."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.fx

from fpgm_core.graph.flow import Known, Value
from fpgm_core.graph.operations.arithmetic import Elementary
from fpgm_core.graph.operations.base import Operation
from fpgm_core.graph.operations.shapes import Reduction

if TYPE_CHECKING:
    from fpgm_core.graph.builder import Builder


class Extreme(Operation):
    """Two operations under one name."""

    reads_weights = True

    def __init__(self) -> None:
        self._of_two, self._over = Elementary(), Reduction(several=True)

    def channel_dim(self, walk: Builder, node: torch.fx.Node, source: torch.fx.Node) -> int | None:
        """As for the one or the other."""
        operation = self._of_two if len(node.all_input_nodes) == 2 else self._over
        return operation.channel_dim(walk, node, source)

    def propagate(self, walk: Builder, node: torch.fx.Node, inputs: list[Value]) -> Known:
        """As the one or the other, which is what rebuilds it, too."""
        operation = self._of_two if len(inputs) == 2 else self._over
        return operation.propagate(walk, node, inputs)
