"""Times of a made-up machine, kept as if it had been probed."""

import numpy as np

from fpgm_core.timing import LayerTimes, Whole, widths
from fpgm_core.timing.layers import layer_shapes
from fpgm_core.timing.probing import keep_whole, whole_plans
from fpgm_core.timing.table import keep_times


def keep(network, coupling, identity):
    """Times of a machine on which a layer takes a tenth of a microsecond by channel and filter, both by whole fours."""

    def ms(inputs, outputs):
        return 1e-4 * (-(-inputs // 4) * 4) * (-(-outputs // 4) * 4)

    for shape in {shape for shape in layer_shapes(network.flow) if shape is not None}:
        keep_times(identity, LayerTimes(shape, {pair: ms(*pair) for pair in shape.points}, False))
    pruned = [network.prune(plan) for plan in whole_plans(network, network.plan(coupling=coupling))]
    inputs, outputs = (np.array(one) for one in zip(*map(widths, pruned), strict=True))
    whole = np.array([sum(ms(i, o) for i, o in zip(*pair, strict=True)) for pair in zip(inputs, outputs, strict=True)])
    times = np.stack([1 + whole, (1 + whole) * 0.999, (1 + whole) * 1.001], axis=1)
    keep_whole(network, coupling, identity, Whole(inputs, outputs, times, False))
