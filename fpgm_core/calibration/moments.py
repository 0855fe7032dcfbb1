"""The calibration pass: second moments of what every consumer of prunable channels reads, and its mean."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fpgm_core.calibration.patches import groups_of, patches, positions
from fpgm_core.data import Batch, ImageSet
from fpgm_core.errors import FpgmError
from fpgm_core.graph import COUPLINGS, TracedModule, WeightedLayer, overlay
from fpgm_core.runtime.cache import Cache
from fpgm_core.runtime.cores import each, workers
from fpgm_core.runtime.device import to_device
from fpgm_core.runtime.locks import FORWARD_LOCK
from fpgm_core.runtime.progress import Progress, Work, run
from fpgm_core.runtime.storage import Kept, ResultStore

RIDGE = 1e-3  # of the mean diagonal of what a layer reads
MOST_COLUMNS = 8192  # of one group of a consumer: 256 MiB of second moments
_PIXELS = 1 << 20  # of a batch's images together: 128 at 32 x 32, 20 at 224 x 224
_LARGEST_BATCH = 128
_FORMAT = 2


@dataclass(frozen=True)
class CalibrationConfig:
    """How to calibrate: on the first `num_images` images, at `positions` of each layer's output, drawn by `seed`."""

    num_images: int = 1500
    positions: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("num_images", 1), ("positions", 1), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**32:
                raise FpgmError(f"{name} {value!r} is not a whole number of at least {least}")


@dataclass(frozen=True, eq=False)
class Moment:
    """What one consumer reads, over samples of its input columns, float32.

    `mean` is (groups, P) and `covariance` (groups, P, P), centred and divided by `samples`; the P columns of a group
    lie channel by channel, as in the layer's weight. A group of fewer samples than columns is singular.
    """

    mean: Tensor
    covariance: Tensor
    samples: int

    @property
    def columns(self) -> int:
        """P, the columns of one group."""
        return self.mean.shape[1]

    @property
    def singular(self) -> bool:
        """Whether there are too few samples, or dead columns: without a ridge no least squares has one answer."""
        return self.samples <= self.columns or bool((self.covariance.diagonal(dim1=1, dim2=2) <= 0).any())

    def ridged(self, ridge: float) -> Tensor:
        """The covariance in float64, with `ridge` times each group's mean diagonal added to the diagonal."""
        return with_ridge(self.covariance.double(), ridge)


def with_ridge(covariance: Tensor, ridge: float, *, floor: Tensor | None = None) -> Tensor:
    """(groups, P, P) with `ridge` times the mean of each group's diagonal on its diagonal: positive definite.

    Columns that are always zero do not count in the mean. `floor` (groups,) is the least that is added, for the
    rounding of the covariance itself; a group that is all zero gets the unit matrix.
    """
    diagonal = covariance.diagonal(dim1=1, dim2=2)
    alive = (diagonal > 0).sum(1).clamp_min(1)
    added = ridge * diagonal.clamp_min(0).sum(1) / alive
    added = added if floor is None else torch.maximum(added, floor)
    added = torch.where(added > 0, added, torch.ones_like(added))
    return covariance + torch.diag_embed(added[:, None].expand_as(diagonal))


@dataclass(frozen=True, eq=False)
class Moments:
    """What the calibration pass found: a Moment by consumer, and why some consumers have none.

    `num_images` of the images called `source` were read; `fingerprint` names the weights.
    """

    fingerprint: str
    config: CalibrationConfig
    num_images: int
    source: str
    layers: Mapping[str, Moment]
    skipped: Mapping[str, str] = field(default_factory=dict)

    def of(self, layer: str) -> Moment:
        """The moments of one consumer. Raises FpgmError with the reason where there are none."""
        if layer not in self.layers:
            raise FpgmError(f"no moments of {layer}: {self.skipped.get(layer, 'it reads no prunable channels')}")
        return self.layers[layer]


def prunable_layers(network: TracedModule) -> tuple[str, ...]:
    """The layers that some coupling may prune, in forward order."""
    members = {member for name in COUPLINGS for unit in network.units(name) for member in unit.members}
    return tuple(layer.name for layer in network.flow.sites if layer.name in members)


def consumers(network: TracedModule) -> tuple[WeightedLayer, ...]:
    """The convolutions and Linear layers that read a channel which some coupling may prune, in forward order."""
    flow, prunable = network.flow, set(prunable_layers(network))
    filters = [
        np.arange(layer.filter_offset, layer.filter_offset + layer.outputs)
        for layer in flow.sites
        if layer.name in prunable and layer.filter_offset >= 0
    ]
    sources = np.concatenate(filters) if filters else np.zeros(0, dtype=int)
    readers = (layer for layer in flow.sites if np.isin(layer.reads, sources).any())
    return tuple(layer for layer in readers if layer.name not in flow.repeated)


def batch_size(images: ImageSet) -> int:
    """How many images go through a network at once: fewer where they are large."""
    height, width = images.pixels.shape[1:3]
    return max(1, min(_LARGEST_BATCH, _PIXELS // (height * width)))


def calibrate_work(
    network: TracedModule,
    images: ImageSet,
    *,
    config: CalibrationConfig = CalibrationConfig(),
    device: torch.device = torch.device("cpu"),
    use_cache: bool = True,
    batch: int | None = None,
    most_columns: int = MOST_COLUMNS,
) -> Work[Moments]:
    """One pass of the dense network over training images: the second moments of what its consumers read.

    Of `images` the first `config.num_images` are read, or all where there are fewer. What an earlier pass over the
    same images found is read from `FPGM_HOME`, and what this one finds is written there, unless `use_cache` is False.
    `batch` images run at once: the result depends on it only by rounding. Consumers of more than `most_columns`
    columns a group are skipped. Memory is bounded by the moments themselves and one batch.

    Raises FpgmError where nothing can be pruned, or where an activation is not finite.
    """
    images = images.first(min(config.num_images, len(images)))
    record = _Record(network, config, images, most_columns)
    moments = record.read() if use_cache else None
    if moments is None:
        sums, skipped = _empty_sums(network, config, len(images), device, most_columns)
        if not sums:
            raise FpgmError(f"nothing to calibrate: {next(iter(skipped.values()), 'no layer reads prunable channels')}")
        yield from _fill(sums, network.module, images.to(device), batch or batch_size(images))
        layers = {name: total.moment(name) for name, total in sums.items()}
        moments = Moments(network.fingerprint, config, len(images), images.name, layers, skipped)
        if use_cache:
            record.write(moments)
    return moments


def calibrate(network: TracedModule, images: ImageSet, **options: Any) -> Moments:
    """`calibrate_work`, run to its end; `options` are its keyword arguments."""
    return run(calibrate_work(network, images, **options))


def _empty_sums(
    network: TracedModule, config: CalibrationConfig, num_images: int, device: torch.device, most_columns: int
) -> tuple[dict[str, _Sums], dict[str, str]]:
    """Sums to be filled for every consumer, and why some consumers have none."""
    sums: dict[str, _Sums] = {}
    skipped: dict[str, str] = {}
    for consumer in consumers(network):
        layer = network.module.get_submodule(consumer.name)
        columns = layer.get_parameter("weight")[0].numel()
        if columns > most_columns:
            skipped[consumer.name] = (
                f"{consumer.name} reads {columns:,} columns, and moments are kept of {most_columns:,}"
            )
            continue
        at = positions(consumer, num_images, count=config.positions, seed=config.seed).to(device)
        sums[consumer.name] = _Sums(at, groups_of(layer), columns)
    return sums, skipped


def _fill(sums: Mapping[str, _Sums], module: nn.Module, images: ImageSet, batch: int) -> Work[None]:
    """Add to `sums` what their layers read of images that lie on the device to be used."""
    device = images.pixels.device
    dense = to_device(overlay(module, {}), device)
    listeners = [_Listener(overlay(dense, {}), sums) for _ in range(workers(device))]
    batches = [Batch(images, begin, min(begin + batch, len(images))) for begin in range(0, len(images), batch)]
    for first in range(0, len(batches), len(listeners)):
        group = batches[first : first + len(listeners)]
        with FORWARD_LOCK:
            heard = each(lambda pair: pair[0].hear(pair[1]), list(zip(listeners, group, strict=False)), device)
        # A core a layer: every sum takes its batches in their order, so that cores change nothing.
        each(partial(_add_all, heard=heard), list(sums.items()), device)
        yield Progress(group[-1].end, len(images), "reading training images")


def _add_all(named: tuple[str, _Sums], heard: list[dict[str, Tensor]]) -> None:
    name, total = named
    for columns in heard:
        total.add(columns[name])


class _Listener:
    """A view of the network that notes what its consumers read."""

    def __init__(self, view: nn.Module, sums: Mapping[str, _Sums]) -> None:
        self._view, self._begin = view, 0
        self._heard: dict[str, Tensor] = {}
        for name, total in sums.items():
            view.get_submodule(name).register_forward_pre_hook(partial(self._note, name, total.at))

    def _note(self, name: str, at: Tensor, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0]
        self._heard[name] = patches(layer, x, at=at[self._begin : self._begin + len(x)])

    def hear(self, batch: Batch) -> dict[str, Tensor]:
        """What every consumer reads of a batch, (samples, groups, P) each."""
        self._begin, self._heard = batch.begin, {}
        with torch.inference_mode():
            self._view(batch.normalised())
        return self._heard


class _Sums:
    """Sums over samples of one consumer's columns, shifted by the first batch's mean: large means lose nothing."""

    def __init__(self, at: Tensor, groups: int, columns: int) -> None:
        self.at, self._count = at, 0
        self._shift: Tensor | None = None
        self._first = torch.zeros(groups, columns, dtype=torch.float64, device=at.device)
        self._second = torch.zeros(groups, columns, columns, device=at.device)

    def add(self, columns: Tensor) -> None:
        """Samples of columns, (samples, groups, P)."""
        if self._shift is None:
            self._shift = columns.mean(0, keepdim=True)
        shifted = (columns - self._shift).transpose(0, 1)
        self._first += shifted.sum(1, dtype=torch.float64)
        self._second.baddbmm_(shifted.transpose(1, 2), shifted)
        self._count += shifted.shape[1]

    def moment(self, name: str) -> Moment:
        """Mean and covariance. Raises FpgmError where something was not finite."""
        assert self._shift is not None
        shifted_mean = self._first / self._count
        covariance = self._second.div_(self._count)
        covariance -= (shifted_mean[:, :, None] * shifted_mean[:, None, :]).float()
        if not bool(covariance.isfinite().all()):
            raise FpgmError(f"what {name} reads is not finite; check the network's weights")
        mean = (shifted_mean + self._shift[0]).float()
        return Moment(mean.cpu(), covariance.cpu(), self._count)


_STORE = ResultStore("moments")
_RECENT = Cache["Moments"]("moments")


class _Record:
    """What keeps a pass's moments, in memory and on disk: covariances as lower triangles."""

    def __init__(self, network: TracedModule, config: CalibrationConfig, images: ImageSet, most_columns: int) -> None:
        self._fields = network.fingerprint, config, len(images), images.name
        self._identity = {
            "format": _FORMAT,
            "network": network.identity,
            "images": images.digest,
            "source": images.name,
            **asdict(config),
            "most_columns": most_columns,
        }
        self._key = json.dumps(self._identity)

    def read(self) -> Moments | None:
        """What it holds; None where it is absent or damaged."""
        moments = _RECENT.get(self._key)
        if moments is None:
            moments = _STORE.read(self._identity, self._moments_in)
            if moments is not None:
                _RECENT.put(self._key, moments)
        return moments

    def write(self, moments: Moments) -> None:
        """Write it whole. Raises FpgmError where that is impossible."""
        values = {
            "samples": {name: moment.samples for name, moment in moments.layers.items()},
            "skipped": dict(moments.skipped),
        }
        arrays = {}
        for name, moment in moments.layers.items():
            arrays[f"{name}.mean"] = moment.mean
            arrays[f"{name}.covariance"] = moment.covariance[:, _lower(moment.columns)]
        _STORE.write(self._identity, Kept(values, arrays))
        _RECENT.put(self._key, moments)

    def _moments_in(self, kept: Kept) -> Moments:
        samples, skipped = kept.values["samples"], kept.values["skipped"]
        layers = {name: _unpacked(kept.arrays, name, count) for name, count in samples.items()}
        if not layers or not all(isinstance(reason, str) for reason in skipped.values()):
            raise ValueError("no moments")
        return Moments(*self._fields, layers, skipped)


def _lower(columns: int) -> Tensor:
    return torch.ones(columns, columns, dtype=torch.bool).tril()


def _unpacked(arrays: Mapping[str, Tensor], name: str, samples: int) -> Moment:
    mean, packed = arrays[f"{name}.mean"], arrays[f"{name}.covariance"]
    if not isinstance(samples, int) or samples < 1 or not bool(mean.isfinite().all() and packed.isfinite().all()):
        raise ValueError(f"no moments of {name}")
    lower = torch.zeros(*mean.shape, mean.shape[1])
    lower[:, _lower(mean.shape[1])] = packed
    return Moment(mean, lower + lower.tril(-1).transpose(1, 2), samples)
