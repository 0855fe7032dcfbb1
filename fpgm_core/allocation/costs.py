"""What allocations cost, thousands of them at once: every layer's filters times its channels, exact under the coupling.

A layer's cost is a product of what it keeps and of what it still reads, and what it reads its neighbours decide. Here
each channel knows after how many of its writers' filters it goes; counts then say which are left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from fpgm_core.allocation.choices import Choices
from fpgm_core.graph.flow import ALWAYS, WeightedLayer

CostFunction = Callable[[np.ndarray], np.ndarray]
"""From the filters pruned of each unit, int (n, units), to what each of the n allocations costs, float64 (n,)."""

_FOREVER = np.iinfo(np.int64).max // 2  # no count prunes so many


@dataclass(frozen=True, eq=False)
class _Channels:
    """How many channels of each group are left, by counts.

    Where one unit alone writes a group's channels, `units` (groups,) is its number and `tables` (groups, most + 1) the
    channels left at each count. Of the groups in `shared` every channel is looked at: `writers` (s, channels) number
    the units that write it, `gone` (s, channels) say after how many of that unit's filters it is written no more, and
    `starts` where each group's channels begin.
    """

    units: np.ndarray
    tables: np.ndarray
    shared: np.ndarray
    writers: np.ndarray
    gone: np.ndarray
    starts: np.ndarray

    def left(self, counts: np.ndarray) -> np.ndarray:
        """How many channels of each group are left, int (n, groups), under counts int (n, units)."""
        total: np.ndarray = self.tables[np.arange(len(self.units)), counts[:, self.units]]
        if len(self.shared):
            alive = (counts[:, self.writers] < self.gone).any(1)
            total[:, self.shared] = np.add.reduceat(alive, self.starts, axis=1, dtype=np.int64)
        return total


@dataclass(frozen=True, eq=False)
class CountedCost:
    """MACs or parameters of allocations: a sum over layers of `product` * rows * channels + `per_row` * rows.

    `constant` makes it equal what the graph counts of the dense network. Exact where the filters that a unit keeps at
    one count are among those that it keeps at any lower one, and no filter goes for want of readers; elsewhere near.
    """

    rows: _Channels
    channels: _Channels
    product: np.ndarray
    per_row: np.ndarray
    constant: float

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """The cost, float64 (n,), of counts int (n, units)."""
        rows, channels = self.rows.left(counts), self.channels.left(counts)
        return (self.product * rows * channels + self.per_row * rows).sum(1) + self.constant


def macs_of(choices: Choices) -> CountedCost:
    """The multiply-adds of one image."""
    weights = [_weights(site) for site in choices.network.flow.sites]
    uses = np.array([site.cost_per_weight for site in choices.network.flow.sites], dtype=float)
    product, per_row = np.array(weights).T * uses
    return _counted(choices, product, per_row, choices.network.dense_cost.macs)


def _weights(site: WeightedLayer) -> tuple[float, float]:
    """A layer's weights by row and channel, and by row: each of a depthwise layer's filters reads one channel."""
    depthwise = 1 < site.groups == site.reads.shape[1]
    return (0.0, float(site.kernel)) if depthwise else (site.kernel / site.groups, 0.0)


def params_of(choices: Choices) -> CountedCost:
    """The learnable parameters."""
    network = choices.network
    norms = {norm.after for norm in network.flow.batch_norms if norm.affine}
    seen, found = set[str](), list[tuple[float, float]]()
    for site in network.flow.sites:
        product, per_row = _weights(site)
        found.append((product, per_row + site.has_bias + 2.0 * (site.name in norms)))
        if site.name in seen:  # it runs twice, and is stored once
            found[-1] = (0.0, 0.0)
        seen.add(site.name)
    product_of, per_row_of = np.array(found).T
    return _counted(choices, product_of, per_row_of, network.dense_cost.params)


def _counted(choices: Choices, product: np.ndarray, per_row: np.ndarray, dense: int) -> CountedCost:
    layers, gone = choices.network.flow.sites, _gone_after(choices)
    rows = _channels((_own(site) for site in layers), gone)
    channels = _channels((site.reads for site in layers), gone)
    model = CountedCost(rows, channels, product, per_row, 0.0)
    nothing = np.zeros((1, len(choices.units)), dtype=int)
    return CountedCost(rows, channels, product, per_row, float(dense - model(nothing)[0]))


def _own(site: WeightedLayer) -> np.ndarray:
    """The sources of a layer's own filters, (1, N): ALWAYS where they are never pruned."""
    if site.filter_offset < 0:
        return np.full((1, site.outputs), ALWAYS)
    return np.arange(site.filter_offset, site.filter_offset + site.outputs)[None]


def _gone_after(choices: Choices) -> tuple[np.ndarray, np.ndarray]:
    """For every source the unit that prunes it, and the least count at which it is gone: int (sources + 1,) each."""
    flow = choices.network.flow
    unit_of, gone = np.zeros(flow.size + 1, dtype=np.int64), np.full(flow.size + 1, _FOREVER)
    gone[-1] = 0  # padding is never written
    offsets = {site.name: site.filter_offset for site in flow.convs}
    for place, one in enumerate(choices.units):
        first = np.full(one.unit.size, _FOREVER)
        for count, rate in reversed(list(zip(one.counts, one.rates, strict=True))):
            mask = choices.network.keep_mask(choices.like.with_rates({one.unit.name: rate}), one.unit)
            first[~mask] = count
        for member in one.unit.members:
            own = slice(offsets[member], offsets[member] + one.unit.size)
            unit_of[own], gone[own] = place, first
    return unit_of, gone


def _channels(reads_of: Iterable[np.ndarray], gone_after: tuple[np.ndarray, np.ndarray]) -> _Channels:
    """The channels of every layer, (writers, channels) sources each; equal writers of a channel count once."""
    unit_of, gone = gone_after
    groups = [
        [frozenset(zip(unit_of[s].tolist(), gone[s].tolist(), strict=True)) for s in reads.T] for reads in reads_of
    ]
    most = int(gone[gone < _FOREVER].max(initial=0))
    units, tables, shared = list[int](), list[np.ndarray](), list[int]()
    for number, columns in enumerate(groups):
        writing = {unit for column in columns for unit, after in column if 0 < after < _FOREVER}
        units.append(next(iter(writing), 0))
        last = np.array([max(after for _, after in column) for column in columns])
        tables.append((last[:, None] > np.arange(most + 1)).sum(0))
        if len(writing) > 1:
            shared.append(number)
    mixed = [column for number in shared for column in groups[number]]
    depth = max(map(len, mixed), default=1)
    filled = np.array([[*column, *[(0, 0)] * (depth - len(column))] for column in mixed], dtype=np.int64)  # never there
    filled = filled.reshape(len(mixed), depth, 2)
    starts = np.cumsum([0, *(len(groups[number]) for number in shared)])[:-1]
    return _Channels(
        np.array(units), np.array(tables), np.array(shared, dtype=int), filled[:, :, 0].T, filled[:, :, 1].T, starts
    )
