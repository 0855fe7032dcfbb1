"""Measured speed: how long the dense and the compact network take, side by side, what memory they need; zeros too."""

from __future__ import annotations

import statistics
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fpgm_core.errors import FpgmError
from fpgm_core.pruning import Network, PrunedNetwork, RecoveryStep
from fpgm_core.runtime.device import choose_device, to_device
from fpgm_core.runtime.locks import FORWARD_LOCK
from fpgm_core.runtime.progress import Progress, Work, run

_WARM_UP = 3
Clock = Callable[[nn.Module, torch.Tensor], float]


@dataclass(frozen=True)
class Latency:
    """Dense and compact network beside each other, measured in turns in one run.

    Milliseconds are medians over `runs` forward passes of `batch` images, after warm-up, in float32,
    channels_last. Bytes are the most that weights and activations held at once: on a GPU as its allocator saw it,
    elsewhere the tensors alive during one pass, without a library's own scratch space. `threads` of the CPU.
    """

    batch: int
    runs: int
    device: str
    threads: int
    dense_ms: float
    compact_ms: float
    dense_peak_bytes: int
    compact_peak_bytes: int

    @property
    def speed_up(self) -> float:
        """How many times faster the compact network is."""
        return self.dense_ms / self.compact_ms


def measure_latency(pruned: PrunedNetwork, **options: Any) -> Latency:
    """Time the dense and the compact network on random images. See `latency_work`, whose arguments are `options`."""
    return run(latency_work(pruned, **options))


def latency_work(
    pruned: PrunedNetwork, *, batch: int = 1, runs: int = 15, device: str = "auto", clock: Clock | None = None
) -> Work[Latency]:
    """Time the dense and the compact network in turns on random images, after warm-up.

    `clock` times one pass of a module on images, in seconds (`time_pass` unless given). Raises FpgmError for a batch
    or runs under 1, and for a device that is not there.
    """
    place = _place(batch, runs, device)
    # Both rebuilt from the trace: it frees activations sooner than a forward that keeps them in variables.
    forms = [to_device(form.compact().eval(), place) for form in (pruned.network.prune(0.0), pruned)]
    images = _images(pruned.network, batch, place)
    dense_ms, compact_ms = yield from _in_turns(forms, images, runs, clock or time_pass)
    dense, compact = (peak_bytes(form, images) for form in forms)
    return Latency(
        batch=batch,
        runs=runs,
        device=place.type,
        threads=torch.get_num_threads(),
        dense_ms=dense_ms,
        compact_ms=compact_ms,
        dense_peak_bytes=dense,
        compact_peak_bytes=compact,
    )


@dataclass(frozen=True)
class Zeros:
    """What zeros are worth in time: as many scattered over the weights, and whole filters of them taken out.

    Milliseconds are medians as in Latency, of three networks in turns: the dense one, one of its shapes with zeros as
    `scatter_zeros` puts them (`scattered_ms`), and the compact one. `share` is the part of all convolutions' weights,
    0..1, that is zero in the second and absent from the third. Dense kernels are used for all, as PyTorch does.
    """

    batch: int
    runs: int
    device: str
    threads: int
    dense_ms: float
    scattered_ms: float
    compact_ms: float
    share: float


def zeros_work(
    pruned: PrunedNetwork, *, batch: int = 1, runs: int = 15, device: str = "auto", clock: Clock | None = None
) -> Work[Zeros]:
    """Time scattered zeros beside removed filters; `clock` as for `latency_work`.

    Raises FpgmError for a batch or runs under 1, or a device that is not there.
    """
    place = _place(batch, runs, device)
    network = pruned.network
    modules = (network.prune(0.0).compact(), scatter_zeros(pruned), pruned.compact())
    lacking, weights = _lacking(network, modules[-1]), sum(w.numel() for w in _conv_weights(network).values())
    forms = [to_device(module.eval(), place) for module in modules]
    images = _images(network, batch, place)
    dense_ms, scattered_ms, compact_ms = yield from _in_turns(forms, images, runs, clock or time_pass)
    return Zeros(
        batch=batch,
        runs=runs,
        device=place.type,
        threads=torch.get_num_threads(),
        dense_ms=dense_ms,
        scattered_ms=scattered_ms,
        compact_ms=compact_ms,
        share=sum(lacking.values()) / weights,
    )


def scatter_zeros(pruned: PrunedNetwork) -> nn.Module:
    """The dense network with as many weights of every convolution at zero as the compact network lacks.

    Those of the smallest magnitude in each, ties going to the earlier one; the dense network is not touched.
    """
    network = pruned.network
    dense, thinned = _conv_weights(network), {}
    for name, count in _lacking(network, pruned.compact()).items():
        flat = dense[name].detach().flatten().clone()
        flat[flat.abs().argsort(stable=True)[:count]] = 0.0
        thinned[f"{name}.weight"] = flat.reshape(dense[name].shape)
    return network.prune(0.0).with_tensors(thinned, RecoveryStep("scattered_zeros")).compact()


def _conv_weights(network: Network) -> dict[str, torch.Tensor]:
    return {layer.name: network.module.get_parameter(f"{layer.name}.weight") for layer in network.layers}


def _lacking(network: Network, compact: nn.Module) -> dict[str, int]:
    """How many weights of each convolution a compact network does without: all, where it lacks the layer."""
    left = {name: parameter.numel() for name, parameter in compact.named_parameters()}
    dense = _conv_weights(network)
    return {name: weight.numel() - left.get(f"{name}.weight", 0) for name, weight in dense.items()}


def _place(batch: int, runs: int, device: str) -> torch.device:
    if batch < 1 or runs < 1:
        raise FpgmError(f"cannot time {runs} runs of {batch} images; give at least 1 of each")
    return choose_device(device)


def _images(network: Network, batch: int, device: torch.device) -> torch.Tensor:
    """Random images (B, C, H, W), the same every time."""
    shape = network.input_shape
    images = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0))
    return images.to(device).to(memory_format=torch.channels_last)


def _in_turns(forms: Sequence[nn.Module], images: torch.Tensor, runs: int, clock: Clock) -> Work[tuple[float, ...]]:
    """Time networks in turns, so that whatever else the machine does slows all of them.

    Returns each one's median milliseconds over `runs` passes, after warm-up.
    """
    times: list[list[float]] = [[] for _ in forms]
    for done in range(_WARM_UP + runs):
        yield Progress(done, _WARM_UP + runs, "timing")
        for form, measured in zip(forms, times, strict=True):
            measured.append(clock(form, images))
    return tuple(statistics.median(measured[_WARM_UP:]) * 1000 for measured in times)


def time_pass(network: Callable[[torch.Tensor], object], images: torch.Tensor) -> float:
    """How many seconds a network takes for a batch, everything that it set going included."""
    with FORWARD_LOCK, torch.inference_mode():
        _wait_for(images.device)
        start = time.perf_counter()
        network(images)
        _wait_for(images.device)
        return time.perf_counter() - start


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def peak_bytes(module: nn.Module, images: torch.Tensor) -> int:
    """The most bytes that a module's tensors, the images and the activations of one pass held at once."""
    own = sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in _tensors(module)}.values())
    with FORWARD_LOCK, torch.inference_mode():
        if images.device.type == "cuda":
            before = torch.cuda.memory_allocated(images.device)
            torch.cuda.reset_peak_memory_stats(images.device)
            module(images)
            reached = torch.cuda.max_memory_allocated(images.device) - before
        else:
            with _AliveTensors() as alive:
                module(images)
            reached = alive.most
    return own + images.untyped_storage().nbytes() + reached


def _tensors(module: nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]


class _AliveTensors(TorchDispatchMode):
    """Counts the bytes of the tensors that operations made and that are still alive."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage()._cdata not in given:
                self._note(tensor)
        return result

    def _note(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        size = storage.nbytes()
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._forget, size)

    def _forget(self, size: int) -> None:
        self.now -= size
