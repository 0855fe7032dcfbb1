"""Why a compact network is not as fast as its MACs promise: layer by layer, and the reasons by what they cost."""

from __future__ import annotations

from dataclasses import dataclass

from fpgm_core.graph import Cost
from fpgm_core.graph.flow import WeightedLayer
from fpgm_core.pruning import Network, PrunedNetwork
from fpgm_core.runtime.progress import Progress, Work
from fpgm_core.timing.latency import COMPACT, DENSE, forms_of
from fpgm_core.timing.profiles import Profile, profile_of
from fpgm_core.timing.runtimes import Target, images_for

VECTOR = 8  # channels: what runtimes compute at once, or a multiple of it
_BOUND = 16  # multiply-adds for every number that is read or written: below that memory decides
_LEAST = 0.05  # of the compact network's time: what costs less is no reason
REASONS = {
    "moving": "channels are placed, copied or reordered between layers",
    "memory": "memory-bound layers read and write more than they compute",
    "widths": f"layers whose widths are no multiples of {VECTOR} compute for channels that are not there",
    "layers": "layers save less than their MACs",
    "between": "what follows layers (norms, activations, sums) does not shrink with the MACs",
    "overhead": "every operation costs a start, however small it is",
}


@dataclass(frozen=True)
class LayerShare:
    """One layer, dense and compact: filters kept, channels read, the share of its MACs left, milliseconds."""

    name: str
    kept: int
    read: int
    macs_left: float
    dense_ms: float
    compact_ms: float

    @property
    def late(self) -> float:
        """Milliseconds beyond what the MACs that are left promise; negative where it saves more."""
        return self.compact_ms - self.macs_left * self.dense_ms


@dataclass(frozen=True)
class Attribution:
    """Where dense and compact time go in one runtime; `reasons` are milliseconds by name of `REASONS`, largest first.

    A reason's milliseconds are what its part takes beyond its dense time shrunk as the network's MACs are; reasons
    below a twentieth of the compact network's time are left out.
    """

    dense: Profile
    compact: Profile
    macs_left: float
    layers: tuple[LayerShare, ...]
    reasons: dict[str, float]

    @property
    def promised_ms(self) -> float:
        """What the compact network would take if time were MACs."""
        return self.macs_left * self.dense.ms


def attribution_work(
    pruned: PrunedNetwork, *, target: Target | None = None, aligned: bool = False
) -> Work[Attribution]:
    """Profile the dense and the compact network, `aligned` or not, whose own MACs count.

    Raises FpgmError for a runtime without a profiler that is read.
    """
    target, network = target or Target(), pruned.network
    forms, images = forms_of(pruned, aligned=aligned), images_for(network.input_shape, target.batch)
    names = {site.name for site in network.flow.sites}
    profiles = dict[str, Profile]()
    for number, (name, form) in enumerate(forms.items()):
        yield Progress(number, len(forms), f"profiling the {name} network in {target.record.title}")
        profiles[name] = profile_of(form, images, target, names)
    dense, compact = profiles[DENSE], profiles[COMPACT]
    cost = pruned.compact_cost(aligned=aligned)
    left = cost.macs / network.dense_cost.macs
    layers = _shares(network, cost, dense, compact)
    return Attribution(dense, compact, left, layers, _reasons(pruned, dense, compact, layers, left, target.batch))


def _shares(network: Network, cost: Cost, dense: Profile, compact: Profile) -> tuple[LayerShare, ...]:
    before, after = dense.of_layers(), compact.of_layers()
    costs = zip(cost.layers, network.dense_cost.layers, strict=True)
    return tuple(
        LayerShare(
            now.name, now.kept, now.live_inputs, now.macs / max(1, was.macs), before[now.name], after.get(now.name, 0.0)
        )
        for now, was in costs
        if now.name in before
    )


def _reasons(
    pruned: PrunedNetwork, dense: Profile, compact: Profile, layers: tuple[LayerShare, ...], left: float, batch: int
) -> dict[str, float]:
    sites = {site.name: site for site in pruned.network.flow.sites}
    found = dict.fromkeys(REASONS, 0.0)
    for one in layers:
        site = sites[one.name]
        bound = _intensity(site, one, batch) < _BOUND
        odd = one.kept % VECTOR or (one.read % VECTOR and one.read < site.reads.shape[1])
        found["memory" if bound else "widths" if odd else "layers"] += one.late
    found["moving"] = _sum(compact, True) - left * _sum(dense, True)
    found["between"] = _sum(compact, False) - left * _sum(dense, False)
    found["overhead"] = compact.overhead - left * dense.overhead
    least = _LEAST * compact.ms
    return dict(sorted(((name, ms) for name, ms in found.items() if ms > least), key=lambda pair: -pair[1]))


def _sum(profile: Profile, moves: bool) -> float:
    return sum(node.ms for node in profile.nodes if not node.layer and node.moves == moves)


def _intensity(site: WeightedLayer, one: LayerShare, batch: int) -> float:
    """Multiply-adds of a layer as it is now for every number that it reads or writes, weights among them."""
    depthwise = 1 < site.groups == site.reads.shape[1]
    weights = one.kept * (1 if depthwise else one.read / site.groups) * site.kernel
    moved = weights + batch * site.cost_per_weight * (one.kept + one.read)
    return weights * site.cost_per_weight * batch / max(1.0, moved)
