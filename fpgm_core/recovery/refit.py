"""Repair in closed form: each consumer refitted by ridge least squares to what the dense network's own makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import Node

from fpgm_core.calibration.moments import RIDGE, CalibrationConfig, batch_size, with_ridge
from fpgm_core.calibration.patches import as_matrices, groups_of, outputs_at, patches, positions
from fpgm_core.data import ImageSet
from fpgm_core.graph import WeightedLayer, overlay
from fpgm_core.pruning import Network, PrunedNetwork
from fpgm_core.recovery.drift import Sum, sum_behind
from fpgm_core.recovery.interpreter import Walk, bytes_an_image
from fpgm_core.recovery.rectified import Fit, Rectifier, Samples, System, rectifier_behind
from fpgm_core.runtime.cores import each, workers
from fpgm_core.runtime.device import to_device
from fpgm_core.runtime.locks import FORWARD_LOCK
from fpgm_core.runtime.progress import Progress, Work

_ENOUGH = 30  # samples a column, below which the ridge rises in proportion
_ROUNDING = 1e-12  # of a mean square: the variance that rounding gives a constant in float32
_MEMORY = 1 << 30  # bytes that the values of all images may take
_KEPT = 1 << 28  # bytes of one layer's samples that are looked at more than once


@dataclass(frozen=True)
class _Task:
    """One layer to be refitted: its node's number, the channels it still reads, the filters it still has.

    `sum`, where its output is added to a stream, says to which; `rectifier` what the output meets next.
    """

    place: int
    node: Node
    site: WeightedLayer
    channels: Tensor
    rows: Tensor
    centred: bool
    sum: Sum | None = None
    rectifier: Rectifier | None = None


def refit_work(
    pruned: PrunedNetwork,
    images: ImageSet,
    *,
    config: CalibrationConfig = CalibrationConfig(),
    ridge: float = RIDGE,
    batch: int | None = None,
) -> Work[dict[str, Tensor]]:
    """Refit a pruned network, front to back; returns the replaced tensors, by name.

    For every convolution and Linear layer behind the first removed filter, with x the columns it reads in the
    network repaired so far (centred; only channels that are left), and y what the dense network's own layer makes at
    the same positions (only filters that are left), the weights become

        W' = (E[y x^T] + r W) (E[x x^T] + r I)^-1,   r = ridge * mean diagonal of E[x x^T],

    the ridge least squares solution that is pulled towards the old weights W; where there are under 30 samples a
    column, r rises in proportion. Where a layer's output is added to a stream, y also has what the stream has lost by
    then, see `fpgm_core.recovery.drift`. The means go into the layer's bias, or into the running mean of the norm
    behind it, so that the whole is the fit and nothing else; a layer that has neither is fitted without centring.
    Depthwise convolutions, each of whose filters reads one channel that is there or gone, are left as they are.

    `images` lie on the device that is used, and are taken `batch` at a time (as many as calibration takes, unless
    given). So many are read that their values fit into 1 GiB. Tensors come in the dense network's shapes, on the CPU,
    by name.
    """
    repairer = _Repairer(pruned, images, config, ridge, batch or batch_size(images))
    for number, task in enumerate(repairer.tasks):
        with FORWARD_LOCK:
            repairer.refit(task)
        yield Progress(number + 1, len(repairer.tasks), f"refitting {task.site.name}")
    return {name: tensor.cpu() for name, tensor in repairer.replaced.items()}


def images_that_fit(network: Network, wanted: int, *, memory: int = _MEMORY) -> int:
    """How many images a refit reads where `wanted` are asked for: both networks' values fit into `memory` bytes."""
    return max(1, min(wanted, memory // (2 * bytes_an_image(network.flow))))


class _Repairer:
    """The dense network and the pruned one, walked side by side."""

    def __init__(
        self, pruned: PrunedNetwork, images: ImageSet, calibration: CalibrationConfig, ridge: float, size: int
    ) -> None:
        network, flow, self._device = pruned.network, pruned.network.flow, images.pixels.device
        self._images = images.first(images_that_fit(network, min(calibration.num_images, len(images))))
        self._calibration, self._ridge = calibration, ridge
        self._batches = [(at, min(at + size, len(self._images))) for at in range(0, len(self._images), size)]
        self._dense = dense = to_device(overlay(network.module, {}), self._device)
        self._pruned = to_device(pruned.masked(), self._device)
        self._walks = [Walk(m, flow, self._device, num_batches=len(self._batches)) for m in (dense, self._pruned)]
        self._live = pruned.live
        self._norms = {norm.after: norm.name for norm in flow.batch_norms if norm.after is not None}
        self.tasks = self._tasks(network)
        self.replaced: dict[str, Tensor] = {}

    def _tasks(self, network: Network) -> list[_Task]:
        sites = {site.name: site for site in network.flow.sites if site.name not in network.flow.repeated}
        tasks, drifted = list[_Task](), False
        for place, node in enumerate(network.flow.graph.graph.nodes):
            site = sites.get(str(node.target)) if node.op == "call_module" else None
            if site is None:
                continue
            channels = self._live[site.reads].any(0)
            drifted |= not channels.all()
            rows = np.ones(site.outputs, dtype=bool)
            if site.filter_offset >= 0:
                rows = self._live[site.filter_offset : site.filter_offset + site.outputs]
            refittable = site.groups == 1 or site.groups < len(channels)
            if drifted and refittable and rows.any() and channels.any():
                tasks.append(self._task(place, node, site, channels, rows))
        return [
            self._followed(task, network, [later.node for later in tasks[at + 1 :]]) for at, task in enumerate(tasks)
        ]

    def _followed(self, task: _Task, network: Network, unfitted: list[Node]) -> _Task:
        """A task with what comes behind it."""
        onto = sum_behind(network.module, network.flow, task.node, unfitted)
        rectifier = rectifier_behind(network.module, task.node, onto) if task.centred else None
        return replace(task, sum=onto, rectifier=rectifier)

    def _task(self, place: int, node: Node, site: WeightedLayer, channels: np.ndarray, rows: np.ndarray) -> _Task:
        if site.groups > 1:  # groups are fitted whole: what is gone is zero, and stays
            channels, rows = np.ones_like(channels), np.ones_like(rows)
        which = [torch.from_numpy(np.flatnonzero(flags)).to(self._device) for flags in (channels, rows)]
        return _Task(place, node, site, which[0], which[1], site.has_bias or site.name in self._norms)

    def refit(self, task: _Task) -> None:
        """Fit one layer, in both walks' present place, and put what came of it into the pruned network."""
        layer = self._pruned.get_submodule(task.site.name)
        at = positions(task.site, len(self._images), count=self._calibration.positions, seed=self._calibration.seed)
        sums, kept = PairSums(), list[Samples]()
        room = _KEPT if task.rectifier is not None else 0
        for first in range(0, len(self._batches), workers(self._device)):
            numbers = range(len(self._batches))[first : first + workers(self._device)]
            found = each(lambda number: self._samples(task, layer, at, number), numbers, self._device)
            for moments in each(lambda one: PairSums.of(one.x, one.y), found, self._device):
                sums.add(*moments)
            room -= sum(one.nbytes for one in found)
            kept = [*kept, *found] if room >= 0 else []
        self._replace(task, layer, sums, kept)

    def _samples(self, task: _Task, layer: nn.Module, at: Tensor, number: int) -> Samples:
        """What the layer reads of a batch, what it is to make of it, and what is added to that."""
        begin, end = self._batches[number]
        places = at[begin:end].to(self._device)
        with torch.inference_mode():
            for walk in self._walks:
                if not walk.begun(number):
                    walk.begin(number, self._images.normalised(begin, end))
            wanted = self._walks[0].up_to(number, task.place + 1)[task.node]
            source = self._walks[1].up_to(number, task.place)[task.node.all_input_nodes[0]]
            added = None
            if task.sum is not None:
                dense, pruned = (walk.ahead(number, task.sum.other) for walk in self._walks)
                wanted = wanted + task.sum.as_outputs(self._dense, dense - pruned)
                added = pruned
            x = patches(layer, source, at=places, channels=self._taken(task)).transpose(0, 1)
            y, also = (
                None if one is None else outputs_at(layer, one, at=places)[:, task.rows].view(x.shape[1], len(x), -1)
                for one in (wanted, added)
            )
            assert y is not None
            return Samples(x, y.transpose(0, 1), None if also is None else also.transpose(0, 1))

    def _taken(self, task: _Task) -> Tensor | None:
        return None if task.site.groups > 1 else task.channels

    def _replace(self, task: _Task, layer: nn.Module, sums: PairSums, kept: Sequence[Samples]) -> None:
        name, weight = task.site.name, layer.get_parameter("weight")
        old = weight[task.rows][:, task.channels] if task.site.groups == 1 else weight
        system = sums.system(as_matrices(old, groups_of(layer)).double(), self._ridge, task.centred)
        fit = system.solve(*sums.pairs(task.centred))
        if kept and task.rectifier is not None:
            fit = task.rectifier.fitted(self._dense, task.rows, system, kept, fit)
        fitted, offset = fit.weight, fit.offset
        new = weight.detach().clone()
        if task.site.groups == 1:
            new[task.rows[:, None], task.channels] = fitted.reshape(old.shape).to(new.dtype)
        else:
            new = fitted.reshape(new.shape).to(new.dtype) * (weight != 0)
        self._put(layer, name, "weight", new)
        if not task.centred:
            return
        whole = torch.zeros(len(weight), dtype=torch.float64, device=self._device)
        whole[task.rows] = offset
        if task.site.has_bias:
            bias = layer.get_parameter("bias")
            live = torch.zeros(len(weight), dtype=torch.bool, device=self._device)
            live[task.rows] = True
            self._put(
                layer, name, "bias", torch.where(live & (weight != 0).flatten(1).any(1), whole.to(bias.dtype), bias)
            )
        else:
            norm = self._pruned.get_submodule(self._norms[name])
            mean = norm.get_buffer("running_mean") - whole.float()
            self._put(norm, self._norms[name], "running_mean", mean)

    def _put(self, module: nn.Module, name: str, kind: str, tensor: Tensor) -> None:
        if kind in module._buffers:
            module._buffers[kind] = tensor
        else:
            module._parameters[kind] = nn.Parameter(tensor, requires_grad=False)
        self.replaced[f"{name}.{kind}"] = tensor


class PairSums:
    """Centred second moments of x with itself and with y, and their means, by group, added up in float64.

    Every part is centred by its own mean and parts are joined by Chan, Golub and LeVeque's formula (1983): means that
    are large beside the spread cost no digits.
    """

    def __init__(self) -> None:
        self._sums: list[Tensor] = []  # of (x - mean)(x - mean)^T and (y - mean)(x - mean)^T
        self._means: list[Tensor] = []  # of x and y
        self._count = 0

    @staticmethod
    def of(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        """The moments of some samples: x is (groups, samples, P), y (groups, samples, N)."""
        means = x.mean(1), y.mean(1)
        x, y = x - means[0][:, None], y - means[1][:, None]
        return (x.transpose(1, 2) @ x, y.transpose(1, 2) @ x, *means, torch.tensor(x.shape[1]))

    def add(self, xx: Tensor, yx: Tensor, x: Tensor, y: Tensor, count: Tensor) -> None:
        """Moments of more samples."""
        n, found, means = int(count), [xx.double(), yx.double()], [x.double(), y.double()]
        if not self._count:
            self._sums, self._means, self._count = found, means, n
            return
        whole = self._count + n
        apart = [new - old for new, old in zip(means, self._means, strict=True)]
        for total, one, left in zip(self._sums, found, apart, strict=True):
            total += one + left[:, :, None] * apart[0][:, None, :] * (self._count * n / whole)
        for mean, step in zip(self._means, apart, strict=True):
            mean += step * (n / whole)
        self._count = whole

    def system(self, old: Tensor, ridge: float, centred: bool) -> System:
        """The ridge least squares problem of weights `old` (groups, N, P)."""
        (xx, _), (x, _) = (one / self._count for one in self._sums), self._means
        squares = xx.diagonal(dim1=1, dim2=2) + x.square()
        if not centred:
            xx = xx + x[:, :, None] * x[:, None, :]
        ridge *= max(1.0, _ENOUGH * xx.shape[1] / self._count)  # few samples: what they say is mostly noise
        ridged = with_ridge(xx, ridge, floor=_ROUNDING * squares.mean(1))
        pull = (ridged - xx).diagonal(dim1=1, dim2=2)[:, None, :]
        return System(torch.linalg.cholesky(ridged), pull * old, x)

    def solve(self, old: Tensor, ridge: float, centred: bool) -> Fit:
        """The ridge least squares fit that is pulled towards weights `old` (groups, N, P)."""
        return self.system(old, ridge, centred).solve(*self.pairs(centred))

    def pairs(self, centred: bool) -> tuple[Tensor, Tensor]:
        """The moments of y with x, (groups, N, P), and the mean of y, (groups, N)."""
        yx, (x, y) = self._sums[1] / self._count, self._means
        return (yx if centred else yx + y[:, :, None] * x[:, None, :]), y
