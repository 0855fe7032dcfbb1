"""MACs and parameters, counted under a plan's own masks; and the paper's closed form beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fpgm_core.errors import FpgmError
from fpgm_core.graph.flow import ALWAYS, NEVER, Flow, Gate, JointNorm, Product, WeightedLayer


@dataclass(frozen=True)
class LayerCost:
    """One convolution or Linear layer: filters kept, input channels live, multiply-adds of one image, parameters."""

    name: str
    kept: int
    live_inputs: int
    macs: int
    params: int


@dataclass(frozen=True)
class Cost:
    """What a network costs under some keep masks.

    `macs` counts the multiply-adds of one image (no bias, no norm; FLOPs = 2 x MACs): of convolutions and Linear layers
    in `layers`, of everything else that PyTorch's own counter finds some in (attention products, blurring) in
    `other_macs`, by the node's name. `params` counts every learnable parameter that is left and a forward pass
    in eval mode reads (auxiliary heads, which only training runs, are not counted).
    """

    layers: tuple[LayerCost, ...]
    macs: int
    params: int
    other_macs: Mapping[str, int] = field(default_factory=dict)


def live_sources(flow: Flow, keep_masks: Mapping[str, np.ndarray]) -> np.ndarray:
    """Which sources carry something, bool (flow.size + 1,): index it with a site's `reads`.

    A filter is live where it is kept, reads something live, and some live consumer reads it; layers
    without a mask keep all. (A depthwise filter whose one channel is absent has nothing to filter; of a
    grouped convolution all kept filters are read where one is, for its groups must stay of equal size.)

    Raises FpgmError where nothing reaches a layer that no plan may empty.
    """
    kept = _kept_sources(flow, keep_masks)
    used = np.zeros_like(kept)
    used[ALWAYS] = True
    used[flow.observed] = True
    before = -1
    while before != (before := int(used.sum())):  # twice over, where layers run more than once
        for reader in reversed(flow.readers):  # consumers come after their producers
            _use(reader, kept, used)
    used[-1] = False
    return kept & used


def _kept_sources(flow: Flow, keep_masks: Mapping[str, np.ndarray]) -> np.ndarray:
    """Which sources are kept and read something, bool (flow.size + 1,)."""
    kept = np.ones(flow.size + 1, dtype=bool)
    kept[-1] = False  # index -1 is NEVER
    for reader in flow.readers:
        if isinstance(reader, Product):
            own = slice(reader.filter_offset, reader.filter_offset + reader.reads[0].shape[1])
            kept[own] = np.logical_and.reduce([kept[reads].any(0) for reads in reader.reads])
        if not isinstance(reader, WeightedLayer):
            continue
        if reader.filter_offset >= 0:
            mask = keep_masks.get(reader.name, True)
            kept[reader.filter_offset : reader.filter_offset + reader.outputs] = mask & _fed_filters(reader, kept)
        if (reader.filter_offset < 0 or reader.name in flow.fixed) and not kept[reader.reads].any():
            raise FpgmError(f"nothing is left that reaches {reader.name} under these rates; lower them")
    return kept


def _use(reader: WeightedLayer | Gate | Product | JointNorm, kept: np.ndarray, used: np.ndarray) -> None:
    """Mark what a reader reads for the sake of what is used of it."""
    if isinstance(reader, JointNorm):
        used[reader.reads] = True
        return
    if isinstance(reader, Gate):
        weights = reader.weights[:, (kept & used)[reader.reads].any(0)]
        if not kept[weights[weights != NEVER]].all():
            raise FpgmError("nothing is left that weighs some channels under these rates; lower them")
        used[weights] = True
        return
    if isinstance(reader, Product):
        live = (kept & used)[reader.filter_offset : reader.filter_offset + reader.reads[0].shape[1]]
        for reads in reader.reads:
            used[reads[:, live]] = True
        return
    if reader.filter_offset >= 0 and 1 < reader.groups < reader.reads.shape[1]:
        own = slice(reader.filter_offset, reader.filter_offset + reader.outputs)
        used[own] = (kept & used)[own].any()
    used[reader.reads[:, reader.read_channels(kept & used)]] = True


def _fed_filters(site: WeightedLayer, kept: np.ndarray) -> np.ndarray:
    """The filters of a layer that read anything at all, bool (N,)."""
    groups = kept[site.reads].any(0).reshape(site.groups, -1).any(1)
    return np.repeat(groups, site.outputs // site.groups)


def count_cost(flow: Flow, keep_masks: Mapping[str, np.ndarray]) -> Cost:
    """The cost by layer and in total where each named layer keeps the filters of its mask, bool (N,).

    What nobody reads is dropped and costs nothing, whatever the masks: of the network as it stands see `dense_cost`.
    """
    return cost_of(flow, live_sources(flow, keep_masks))


def dense_cost(flow: Flow) -> Cost:
    """The cost of the network as it stands, filters that nobody reads too."""
    everything = np.ones(flow.size + 1, dtype=bool)
    return cost_of(flow, everything)


def cost_of(flow: Flow, live: np.ndarray) -> Cost:
    """The cost by layer and in total of a network that holds just some sources, bool (flow.size + 1,)."""
    layers, counted = [], set[str]()
    for site in flow.sites:
        layers.append(_layer_cost(site, live, shared=site.name in counted))
        counted.add(site.name)
    norms = sum(2 * int(live[norm.reads].any(0).sum()) for norm in flow.batch_norms if norm.affine)
    scales = sum(one.size * int(live[one.reads].any(0).sum()) for one in flow.channel_tensors)
    params = sum(layer.params for layer in layers) + norms + scales + flow.other_params
    others = dict(flow.other_macs)
    for name, reads in flow.by_channel.items():
        others[name] = others[name] * int(live[reads].any(0).sum()) // reads.shape[1]
    return Cost(tuple(layers), sum(layer.macs for layer in layers) + sum(others.values()), params, others)


def _layer_cost(site: WeightedLayer, live: np.ndarray, shared: bool) -> LayerCost:
    inputs = live[site.reads].any(0).reshape(site.groups, -1).sum(1)
    if site.filter_offset >= 0:
        rows = live[site.filter_offset : site.filter_offset + site.outputs].reshape(site.groups, -1).sum(1)
    else:
        rows = np.full(site.groups, site.outputs // site.groups)
    weights, kept = int((rows * inputs).sum()) * site.kernel, int(rows.sum())
    params = 0 if shared else weights + (kept if site.has_bias else 0)  # a layer that runs twice is stored once
    return LayerCost(site.name, kept, int(inputs.sum()), weights * site.cost_per_weight, params)


def closed_form_cut(flow: Flow, rate: float) -> float:
    """The share of convolution FLOPs cut by the paper's formula for CIFAR ResNets, with fractional channels.

    With p = 1 - rate: the first convolution costs p of its dense MACs, each block's first p and second
    p^2, and both of the very first block p^2; no Linear layer, no norm (paper, Table 1). It prints the
    paper's percentages; the true count follows the plan's masks and differs.

    Raises FpgmError for networks other than CIFAR ResNets, where the paper gives no formula.
    """
    p = 1 - rate
    blocks = [site for site in flow.convs if site.name.startswith("layer")]
    if [site.name for site in flow.convs][:1] != ["conv1"] or any(
        site.name.count(".") != 2 or not site.name.endswith((".conv1", ".conv2")) for site in blocks
    ):
        raise FpgmError("the paper's closed form is for CIFAR ResNets only; read the counted MACs")
    left = total = 0.0
    for site in flow.convs:
        dense = site.outputs * site.reads.shape[1] * site.kernel * site.cost_per_weight
        squared = site.name.endswith(".conv2") or site.name == "layer1.0.conv1"
        total += dense
        left += dense * (p * p if squared else p)
    return 1 - left / total
