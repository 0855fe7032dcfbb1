"""What is computed once of each layer's filters: exact figures, projections, orders of removal, kernels."""

from __future__ import annotations

import base64
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from fpgm_core import CRITERIA, FpgmError, Network, Plan, SelectionOptions
from fpgm_core.criteria import Projection, exact_projections, geometric_median, get_criterion, pairwise_distances
from fpgm_core.criteria.layouts import known_layout
from fpgm_core.graph import Unit, weights_of
from fpgm_core.pruning import RemovalOrder, removal_order
from pages.ui.components.picture import NO_NUMBER, Tiles
from pages.ui.session.kept import kept

_NEIGHBOURS = 16384  # numbers of neighbours that are sent of a layer, all filters together
_QUICK = 2e7  # products of a unit's filters and weights up to which an order comes at once


@dataclass(frozen=True, eq=False)
class LayerFacts:
    """What is true of a layer's N filters whatever the plan: computed once, shared by every session.

    `norms`, `sums` (g, the sum of distances to all filters), `to_median` and `gaps` (to the nearest other filter) are
    (N,), `near` (N, K) the nearest others, nearest first; `medoid` and `nearest` (to the geometric median) are filters.
    """

    norms: np.ndarray
    sums: np.ndarray
    to_median: np.ndarray
    gaps: np.ndarray
    near: np.ndarray
    medoid: int
    nearest: int

    def twin(self, index: int) -> int | None:
        """The filter nearest to one of them; None where there is no other."""
        return int(self.near[index, 0]) if self.near.shape[1] else None


@kept
def layer_facts(fingerprint: str, layer: str, _network: Network) -> LayerFacts:
    """The exact figures of a layer's filters."""
    weights = weights_of(_network.module, layer)
    median, n = geometric_median(weights), len(weights)
    distances, sums = pairwise_distances(weights).numpy(), CRITERIA["fpgm"].score(weights).numpy()
    np.fill_diagonal(distances, np.inf)
    return LayerFacts(
        CRITERIA["l2_norm"].score(weights).numpy(),
        sums,
        median.distances.numpy(),
        distances.min(axis=1) if n > 1 else np.zeros(n),
        _nearest(distances, min(n - 1, max(8, _NEIGHBOURS // n))),
        int(sums.argmin()),
        median.nearest,
    )


def _nearest(distances: np.ndarray, count: int) -> np.ndarray:
    """The `count` nearest of every filter, nearest first, (N, count); of few among many only those are sorted."""
    if count < len(distances) // 4:
        among = np.sort(np.argpartition(distances, count, axis=1)[:, :count], axis=1)
        order = np.take_along_axis(distances, among, 1).argsort(axis=1, kind="stable")
        return np.take_along_axis(among, order, 1)
    return distances.argsort(axis=1, kind="stable")[:, :count]


def exact_projection(fingerprint: str, layer: str, method: str, network: Network) -> Projection:
    """The PCA or radial picture of a layer."""
    return _exact_projections(fingerprint, layer, network)[method]


@kept
def _exact_projections(fingerprint: str, layer: str, _network: Network) -> dict[str, Projection]:
    return {found.method: found for found in exact_projections(weights_of(_network.module, layer))}


@kept
def stored_layout(fingerprint: str, layer: str, seed: int, _network: Network) -> Projection | None:
    """The UMAP of a layer where it was computed in an earlier session, or ships with the network."""
    return known_layout(fingerprint, layer, weights_of(_network.module, layer), seed)


def order_of(network: Network, plan: Plan, unit: Unit) -> RemovalOrder:
    """`removal_order` of a unit, remembered whatever the rates are."""
    return _order(order_key(network, plan, unit), network, plan, unit)


def order_key(network: Network, plan: Plan, unit: Unit) -> tuple[Hashable, ...]:
    """What a unit's order of removal depends on."""
    locks = plan.locked_in.get(unit.name, ()), plan.locked_out.get(unit.name, ())
    return (network.identity, unit, plan.criterion, network.scores_digest(plan.criterion), plan.options, *locks)


def takes_long(network: Network, plan: Plan, unit: Unit) -> bool:
    """Whether an order takes seconds: later stages measure all distances anew at every percent."""
    numbers = sum(weights_of(network.module, member).numel() for member in unit.members)
    return len(get_criterion(plan.criterion).stages) > 1 and unit.size * numbers > _QUICK


@kept
def _order(key: tuple[Hashable, ...], _network: Network, _plan: Plan, _unit: Unit) -> RemovalOrder:
    return removal_order(_network, _plan, _unit)


@kept
def ranks_of(
    scored: tuple[str | None, ...], layer: str, seed: int, names: tuple[str, ...], _network: Network
) -> dict[str, np.ndarray]:
    """Every filter's rank (N,) under each criterion of those names that has one for this layer: 1 is pruned first.

    `scored` is what the scores depend on: the network's identity, and the digest of every criterion's.
    """
    alone, ranks = Unit(layer, (layer,), len(weights_of(_network.module, layer))), {}
    for name in names:
        if len(get_criterion(name).stages) > 1:
            continue  # what a staged selector prunes first depends on the rate
        try:
            scores = _network.scores(alone, name, SelectionOptions(seed=seed))
        except FpgmError:
            continue  # a criterion that has none for this layer
        ranks[name] = np.argsort(np.argsort(scores, kind="stable"), kind="stable") + 1
    return ranks


@kept
def tiles_of(
    scored: tuple[str | None, ...],
    layer: str,
    chosen: int,
    twin: int | None,
    names: tuple[str, ...],
    seed: int,
    _network: Network,
) -> Tiles:
    """A filter's kernels, its twin's and their difference, on one diverging scale around 0 for the whole layer.

    Its ranks are those of the criteria of those names; `scored` as in `ranks_of`.
    """
    weights = weights_of(_network.module, layer).numpy()
    limit = float(np.abs(weights).max()) or 1.0
    parts = [weights[chosen]]
    if twin is not None:
        parts += [weights[twin], weights[chosen] - weights[twin]]
    sheets = [tile(part) for part in parts]
    ranks = ranks_of(scored, layer, seed, names, _network)
    return Tiles(
        chosen,
        [(name, int(rank[chosen])) for name, rank in ranks.items()],
        sheets[0].shape[1],
        limit,
        [_packed(sheet / limit) for sheet in sheets],
    )


def tile(filter_weights: np.ndarray) -> np.ndarray:
    """A filter's kernels (C, kH, kW) on a near-square grid, a NaN line between those of more than one number."""
    channels, height, width = filter_weights.shape
    columns = int(np.ceil(np.sqrt(channels * height / width)))
    rows, gap = -(-channels // columns), int(height * width > 1)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap), np.nan)
    for index, kernel in enumerate(filter_weights):
        row, column = divmod(index, columns)
        top, left = row * (height + gap), column * (width + gap)
        sheet[top : top + height, left : left + width] = kernel
    return sheet


def _packed(sheet: np.ndarray) -> str:
    """Numbers -1 to 1, or NaN, as bytes in base64."""
    numbers = np.where(np.isnan(sheet), NO_NUMBER, np.rint(127 * np.clip(np.nan_to_num(sheet), -1, 1)))
    return base64.b64encode(numbers.astype(np.int8).tobytes()).decode()
