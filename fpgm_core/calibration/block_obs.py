"""What removing filters costs once their consumers are refitted: Optimal Brain Surgeon in blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fpgm_core.calibration.moments import RIDGE, Moment, Moments, consumers
from fpgm_core.calibration.patches import as_matrices, groups_of
from fpgm_core.errors import FpgmError
from fpgm_core.graph import TracedModule, WeightedLayer
from fpgm_core.graph.flow import ALWAYS
from fpgm_core.runtime.cache import Cache

_REMEMBERED_COLUMNS = 1152


def _inverted(ridged: Tensor) -> Tensor:
    return torch.cholesky_inverse(torch.linalg.cholesky(ridged))


_INVERSES = Cache[tuple[Tensor, Moment]]("inverses")


def _inverse(moment: Moment, ridge: float) -> Tensor:
    """The inverse of a consumer's ridged moments, (groups, P, P): each of a stream's writers asks for it."""
    # With the moment, so that its id stays.
    return _INVERSES.get_or_make((id(moment), ridge), lambda: (_inverted(moment.ridged(ridge)), moment))[0]


class Elimination:
    """One least squares problem from which columns are taken for good, in float64.

    `weight` (N, P) reads columns of second moments `ridged` (P, P), positive definite. With H its inverse, taking
    the columns B and refitting the others raises the squared error, summed over the N outputs, by exactly

        tr(W_B (H_BB)^-1 W_B^T),

    and leaves W - W_B (H_BB)^-1 H_B and H - H_:B (H_BB)^-1 H_B: (Hassibi and Stork, NIPS 1992, in blocks).
    """

    def __init__(self, weight: Tensor, ridged: Tensor) -> None:
        self.weight = weight.double().clone()
        self.inverse = _inverted(ridged.double())

    @classmethod
    def of(cls, weight: Tensor, moment: Moment, group: int, ridge: float) -> Elimination:
        """The problem of one group of a consumer."""
        found = cls.__new__(cls)
        found.weight = weight.double().clone()
        large = moment.columns > _REMEMBERED_COLUMNS
        found.inverse = _inverted(moment.ridged(ridge)[group]) if large else _inverse(moment, ridge)[group].clone()
        return found

    def costs(self, blocks: Tensor) -> Tensor:
        """What each block alone would cost, (n,), of column numbers `blocks` (n, b)."""
        inner = self.inverse[blocks[:, :, None], blocks[:, None, :]]
        weight = self.weight[:, blocks].permute(1, 2, 0)  # (n, b, N)
        return (torch.linalg.solve(inner, weight) * weight).sum((1, 2)).clamp_min(0)

    def remove(self, columns: Tensor) -> float:
        """Take columns (m,) and refit the others, in place; what that cost."""
        if not len(columns):
            return 0.0
        weight, rows = self.weight[:, columns], self.inverse[columns]
        solved = torch.linalg.solve(rows[:, columns], rows)  # (m, P)
        cost = float(((weight @ torch.linalg.inv(rows[:, columns])) * weight).sum())
        self.weight -= weight @ solved
        self.inverse -= rows.T @ solved
        self.weight[:, columns] = 0
        self.inverse[columns], self.inverse[:, columns] = 0, 0
        self.inverse[columns, columns] = 1  # what is gone costs nothing, and can still be asked
        return max(0.0, cost)


@dataclass(frozen=True, eq=False)
class Reading:
    """How one group of a consumer reads filters: at which columns it reads each, and with whom they share channels.

    `filters` (n,) are positions in their unit, `blocks` (n, b) the columns of each; `share` is the part of the
    channels' writers that belong to the unit: 1 where nobody else writes them.
    """

    layer: str
    group: int
    filters: np.ndarray
    blocks: Tensor
    share: float


def readings(network: TracedModule, members: Sequence[str]) -> tuple[Reading, ...]:
    """Who reads the filters of `members`, layers that go together.

    A depthwise convolution's filters go with what they read, and its own consumers stand in its place.
    Raises FpgmError for a member that is no convolution.
    """
    sites = {site.name: site for site in network.flow.convs}
    if unknown := [name for name in members if name not in sites]:
        raise FpgmError(f"{unknown[0]!r} is no convolution of this network; `layers` lists them")
    own = _followed(network, [sites[name] for name in members])
    return tuple(reading for site in consumers(network) if not _is_depthwise(site) for reading in _reads(site, own))


def _is_depthwise(site: WeightedLayer) -> bool:
    return site.groups > 1 and site.groups == site.reads.shape[1]


def _followed(network: TracedModule, members: list[WeightedLayer]) -> list[tuple[WeightedLayer, np.ndarray]]:
    """The members, and depthwise convolutions behind them; for each filter its position in the unit, -1 if in none."""
    found = [(site, np.arange(site.outputs)) for site in members]
    known = {site.name for site in members}
    for site in network.flow.convs:
        if not _is_depthwise(site) or site.name in known or site.filter_offset < 0:
            continue
        places = _places(site.reads, found)
        if (places >= 0).any():
            found.append((site, np.repeat(places, site.outputs // site.groups)))
            known.add(site.name)
    return found


def _places(reads: np.ndarray, own: Sequence[tuple[WeightedLayer, np.ndarray]]) -> np.ndarray:
    """For each channel that is read the position in the unit of a filter that writes it, -1 where none does."""
    places = np.full(reads.shape[1], -1)
    for site, positions in own:
        for row in reads:
            inside = (row >= site.filter_offset) & (row < site.filter_offset + site.outputs)
            places[inside] = positions[row[inside] - site.filter_offset]
    return places


def _reads(site: WeightedLayer, own: Sequence[tuple[WeightedLayer, np.ndarray]]) -> list[Reading]:
    places = _places(site.reads, own)
    if not (places >= 0).any():
        return []
    mine = np.isin(
        site.reads, np.concatenate([np.arange(s.filter_offset, s.filter_offset + s.outputs) for s, _ in own])
    )
    writers = (site.reads > ALWAYS).sum(0) + (site.reads == ALWAYS).any(0)
    share = float((mine.sum(0) / np.maximum(writers, 1))[places >= 0].mean())
    width = site.reads.shape[1] // site.groups
    found = []
    for group in range(site.groups):
        here = places[group * width : (group + 1) * width]
        which = [int(f) for f in np.unique(here) if f >= 0]
        columns = [(np.flatnonzero(here == f)[:, None] * site.kernel + np.arange(site.kernel)).ravel() for f in which]
        for size in sorted({len(block) for block in columns}):
            same = [n for n, block in enumerate(columns) if len(block) == size]
            blocks = torch.from_numpy(np.stack([columns[n] for n in same]))
            found.append(Reading(site.name, group, np.array([which[n] for n in same]), blocks, share))
    return found


@dataclass(frozen=True, eq=False)
class UnitLoss:
    """What taking filters of some layers costs those who read them: a least squares problem for each.

    `scale` is what each one's cost is multiplied by.
    """

    size: int
    readings: tuple[Reading, ...]
    problems: tuple[Elimination, ...]
    scale: tuple[float, ...]

    @classmethod
    def of(
        cls,
        network: TracedModule,
        members: Sequence[str],
        moments: Moments,
        ridge: float = RIDGE,
        relative: bool = False,
    ) -> UnitLoss:
        """The problems as they are in the dense network; `relative` to the variance of what each consumer makes.

        Raises FpgmError where a consumer has no moments, or nobody reads the layers.
        """
        found = readings(network, members)
        if not found:
            raise FpgmError(f"nobody that can be refitted reads {members[0]}; choose another criterion")
        problems, scale = [], []
        for reading in found:
            layer, moment = network.module.get_submodule(reading.layer), moments.of(reading.layer)
            weight = as_matrices(layer.get_parameter("weight"), groups_of(layer)).double().cpu()
            problems.append(Elimination.of(weight[reading.group], moment, reading.group, ridge))
            made = torch.einsum("gnp,gpq,gnq->", weight, moment.covariance.double(), weight) if relative else 1.0
            scale.append(reading.share / max(float(made), 1e-30))
        size = next(site.outputs for site in network.flow.convs if site.name == members[0])
        return cls(size, found, tuple(problems), tuple(scale))

    def costs(self) -> np.ndarray:
        """What each filter alone would cost now, float64 (N,)."""
        total = np.zeros(self.size)
        for reading, problem, scale in zip(self.readings, self.problems, self.scale, strict=True):
            np.add.at(total, reading.filters, scale * problem.costs(reading.blocks).numpy())
        return total

    def remove(self, filters: np.ndarray) -> float:
        """Take filters, numbers in the unit, for good and refit; what that cost all together."""
        total = 0.0
        for reading, problem, scale in zip(self.readings, self.problems, self.scale, strict=True):
            blocks = reading.blocks[torch.from_numpy(np.isin(reading.filters, filters))]
            total += scale * problem.remove(blocks.flatten())
        return total


def refit_cost(network: TracedModule, layer: str, moments: Moments, ridge: float = RIDGE) -> np.ndarray:
    """What the network's consumers lose with each filter of a layer, float64 (N,), when it goes alone.

    Summed over consumers: tr(W_i [(G^-1)_ii]^-1 W_i^T) with G the centred second moments of what the consumer reads
    plus `ridge` times their mean diagonal, i the filter's block of columns. It is the exact rise of the consumer's
    mean squared error (and of the ridge's penalty) after the best refit of all other columns. Of a channel that
    several filters write each carries an equal share.
    """
    return UnitLoss.of(network, [layer], moments, ridge).costs()


def stand_in(
    network: TracedModule, layer: str, moments: Moments, ridge: float = RIDGE
) -> tuple[np.ndarray, np.ndarray]:
    """What each filter of a layer costs its readers when it goes, alone and with the others standing in: (N,), (N,).

    Both as shares of the variance of what each reader makes, summed over the readers. The first leaves the readers'
    weights as they are, tr(W_i G_ii W_i^T), but for their constants; the second refits them, see `refit_cost`, and is
    never more. Raises FpgmError as `UnitLoss.of` does.
    """
    loss = UnitLoss.of(network, [layer], moments, ridge, relative=True)
    total = np.zeros(loss.size)
    for reading, problem, scale in zip(loss.readings, loss.problems, loss.scale, strict=True):
        ridged = moments.of(reading.layer).ridged(ridge)[reading.group]
        inner = ridged[reading.blocks[:, :, None], reading.blocks[:, None, :]]  # (n, b, b)
        weight = problem.weight[:, reading.blocks]  # (N, n, b)
        alone = torch.einsum("onb,nbc,onc->n", weight, inner, weight)
        np.add.at(total, reading.filters, scale * alone.numpy())
    return total, loss.costs()


def greedy_order(loss: UnitLoss) -> np.ndarray:
    """The filters in the order in which they go when always the cheapest goes next, int (N,). Uses up `loss`."""
    left, order = np.ones(loss.size, dtype=bool), list[int]()
    while left.any():
        costs = np.where(left, loss.costs(), np.inf)
        first = int(costs.argmin())
        loss.remove(np.array([first]))
        left[first] = False
        order.append(first)
    return np.array(order)
