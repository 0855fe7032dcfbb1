"""Compact networks: what a masked network computes, in tensors as small as what is left of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch.fx
from torch import nn

from fpgm_core.graph import Rebuilder, Value
from fpgm_core.graph.cost import live_sources
from fpgm_core.graph.flow import ALWAYS, Flow, Product, WeightedLayer
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
    return Rebuilder(module, flow, masked_tensors(module, flow, keep_masks), carried).run()


def carried_sources(flow: Flow, live: np.ndarray) -> np.ndarray:
    """The live sources, and the absent ones that write to channels of a sum which others write."""
    carried, size, plain = live.copy(), _layer_sizes(flow), _plain_filters(flow)
    known = [value for value in flow.values.values() if isinstance(value, Value)]
    sums = [value.sources for value in known if value.operation is not None and value.operation.unites]
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
        if isinstance(reader, WeightedLayer) and reader.groups == 1:
            continue
        for reads in reader.reads if isinstance(reader, Product) else (reader.reads,):
            plain[reads[reads > ALWAYS]] = False
    return plain
