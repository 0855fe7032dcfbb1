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
    def of(cls, weight: Tensor, moment: Moment, *, group: int, ridge: float) -> Elimination:
        """The problem of one group of a consumer."""
        problem = cls.__new__(cls)
        problem.weight = weight.double().clone()
        large = moment.columns > _REMEMBERED_COLUMNS
        problem.inverse = _inverted(moment.ridged(ridge)[group]) if large else _inverse(moment, ridge)[group].clone()
        return problem

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
        self.inverse[columns, columns] = 1  # what is gone costs nothing, and can still be asked for
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
    convs = {conv.name: conv for conv in network.flow.convs}
    if unknown := [name for name in members if name not in convs]:
        raise FpgmError(f"{unknown[0]!r} is no convolution of this network; `layers` lists them")
    writers = _writers(network, [convs[name] for name in members])
    readers = (layer for layer in consumers(network) if not _is_depthwise(layer))
    return tuple(reading for layer in readers for reading in _readings_of(layer, writers))


def _is_depthwise(layer: WeightedLayer) -> bool:
    return layer.groups > 1 and layer.groups == layer.reads.shape[1]


_Writers = list[tuple[WeightedLayer, np.ndarray]]  # layers, and for each filter its position in the unit, -1 if in none


def _writers(network: TracedModule, members: list[WeightedLayer]) -> _Writers:
    """The members, and the depthwise convolutions behind them."""
    writers = [(layer, np.arange(layer.outputs)) for layer in members]
    known = {layer.name for layer in members}
    for layer in network.flow.convs:
        if not _is_depthwise(layer) or layer.name in known or layer.filter_offset < 0:
            continue
        positions = _positions_read(layer, writers)
        if (positions >= 0).any():
            writers.append((layer, np.repeat(positions, layer.outputs // layer.groups)))
            known.add(layer.name)
    return writers


def _positions_read(layer: WeightedLayer, writers: _Writers) -> np.ndarray:
    """For each channel that a layer reads the position in the unit of a filter that writes it, -1 where none does."""
    positions = np.full(layer.reads.shape[1], -1)
    for writer, filter_positions in writers:
        for sources in layer.reads:
            inside = (sources >= writer.filter_offset) & (sources < writer.filter_offset + writer.outputs)
            positions[inside] = filter_positions[sources[inside] - writer.filter_offset]
    return positions


def _readings_of(layer: WeightedLayer, writers: _Writers) -> list[Reading]:
    """How each group of a layer reads the filters of the unit: one Reading for all filters of as many columns."""
    positions = _positions_read(layer, writers)
    if not (positions >= 0).any():
        return []
    share, width = _share_of_writers(layer, writers, positions >= 0), layer.reads.shape[1] // layer.groups
    result = []
    for group in range(layer.groups):
        in_group = positions[group * width : (group + 1) * width]
        filters = [int(position) for position in np.unique(in_group) if position >= 0]
        kernel = np.arange(layer.kernel)
        columns = [(np.flatnonzero(in_group == each)[:, None] * layer.kernel + kernel).ravel() for each in filters]
        for size in sorted({len(block) for block in columns}):
            same = [index for index, block in enumerate(columns) if len(block) == size]
            result.append(
                Reading(
                    layer=layer.name,
                    group=group,
                    filters=np.array([filters[index] for index in same]),
                    blocks=torch.from_numpy(np.stack([columns[index] for index in same])),
                    share=share,
                )
            )
    return result


def _share_of_writers(layer: WeightedLayer, writers: _Writers, read: np.ndarray) -> float:
    """What part of the writers of the channels `read`, bool (C,), belongs to the unit."""
    own = np.concatenate(
        [np.arange(writer.filter_offset, writer.filter_offset + writer.outputs) for writer, _ in writers]
    )
    written_by_own = np.isin(layer.reads, own).sum(0)
    written_by_all = (layer.reads > ALWAYS).sum(0) + (layer.reads == ALWAYS).any(0)
    return float((written_by_own / np.maximum(written_by_all, 1))[read].mean())


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
        *,
        moments: Moments,
        ridge: float = RIDGE,
        relative: bool = False,
    ) -> UnitLoss:
        """The problems as they are in the dense network; `relative` to the variance of what each consumer makes.

        Raises FpgmError where a consumer has no moments, or nobody reads the layers.
        """
        unit_readings = readings(network, members)
        if not unit_readings:
            raise FpgmError(f"nobody that can be refitted reads {members[0]}; choose another criterion")
        problems, scale = [], []
        for reading in unit_readings:
            layer, moment = network.module.get_submodule(reading.layer), moments.of(reading.layer)
            weight = as_matrices(layer.get_parameter("weight"), groups_of(layer)).double().cpu()
            problems.append(Elimination.of(weight[reading.group], moment, group=reading.group, ridge=ridge))
            variance = torch.einsum("gnp,gpq,gnq->", weight, moment.covariance.double(), weight) if relative else 1.0
            scale.append(reading.share / max(float(variance), 1e-30))
        size = next(conv.outputs for conv in network.flow.convs if conv.name == members[0])
        return cls(size, unit_readings, tuple(problems), tuple(scale))

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


def refit_cost(network: TracedModule, layer: str, *, moments: Moments, ridge: float = RIDGE) -> np.ndarray:
    """What the network's consumers lose with each filter of a layer, float64 (N,), when it goes alone.

    Summed over consumers: tr(W_i [(G^-1)_ii]^-1 W_i^T) with G the centred second moments of what the consumer reads
    plus `ridge` times their mean diagonal, i the filter's block of columns. It is the exact rise of the consumer's
    mean squared error (and of the ridge's penalty) after the best refit of all other columns. Of a channel that
    several filters write each carries an equal share.
    """
    return UnitLoss.of(network, [layer], moments=moments, ridge=ridge).costs()


def stand_in(
    network: TracedModule, layer: str, *, moments: Moments, ridge: float = RIDGE, relative: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """What each filter of a layer costs its readers when it goes, alone and with the others standing in: (N,), (N,).

    Summed over the readers; with `relative` each reader's as a share of the variance of what it makes. The first leaves
    the readers' weights as they are, tr(W_i G_ii W_i^T), but for their constants; the second refits them, see
    `refit_cost`, and is never more. Raises FpgmError as `UnitLoss.of` does.
    """
    loss = UnitLoss.of(network, [layer], moments=moments, ridge=ridge, relative=relative)
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
        cheapest = int(costs.argmin())
        loss.remove(np.array([cheapest]))
        left[cheapest] = False
        order.append(cheapest)
    return np.array(order)
