"""The form of a pruned network that runs fastest."""

from __future__ import annotations

import torch
from torch.fx import GraphModule

from fpgm_core.pruning import PrunedNetwork
from fpgm_core.runtime.cores import alone
from fpgm_core.runtime.device import to_device


def compact_on(pruned: PrunedNetwork, device: torch.device) -> GraphModule:
    """The aligned compact network, see `PrunedNetwork.compact`, on a device, convolutions in channels_last."""
    return alone(lambda: to_device(pruned.compact(aligned=True), device))
