"""Measured speed: how long the dense and the compact network take, side by side, and what memory they need."""

from __future__ import annotations

import statistics
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fpgm_core.errors import FpgmError
from fpgm_core.evaluation.device import choose_device
from fpgm_core.forward_lock import FORWARD
from fpgm_core.pruning import Plan, Prunable

_WARM_UP = 3


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


def measure_latency(prunable: Prunable, plan: Plan, batch: int = 1, runs: int = 15, device: str = "auto") -> Latency:
    """Time the dense and the compact network of a plan on random images. Raises FpgmError for a batch under 1."""
    *_, latency = latency_steps(prunable, plan, batch, runs, device)
    assert isinstance(latency, Latency)
    return latency


def latency_steps(
    prunable: Prunable, plan: Plan, batch: int = 1, runs: int = 15, device: str = "auto"
) -> Iterator[float | Latency]:
    """As `measure_latency`, a pass at a time: yields the share that is done, 0..1, and last the result."""
    if batch < 1 or runs < 1:
        raise FpgmError(f"cannot time {runs} runs of {batch} images; give at least 1 of each")
    place = choose_device(device)
    # Both rebuilt from the trace: it frees activations sooner than a forward that keeps them in variables.
    whole = Plan(plan.model, plan.fingerprint)
    forms = [_placed(prunable.compact(one), place) for one in (whole, plan)]
    shape = prunable.loaded.info.input_shape
    images = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0))
    images = images.to(place).to(memory_format=torch.channels_last)
    times: list[list[float]] = [[] for _ in forms]
    for done in range(_WARM_UP + runs):
        yield done / (_WARM_UP + runs)
        for form, measured in zip(forms, times, strict=True):
            measured.append(time_pass(form, images))
    dense_ms, compact_ms = (statistics.median(measured[_WARM_UP:]) * 1000 for measured in times)
    dense, compact = (peak_bytes(form, images) for form in forms)
    yield Latency(batch, runs, place.type, torch.get_num_threads(), dense_ms, compact_ms, dense, compact)


def _placed(module: nn.Module, device: torch.device) -> nn.Module:
    return module.eval().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def time_pass(network: Callable[[torch.Tensor], object], images: torch.Tensor) -> float:
    """How many seconds a network takes for a batch, everything that it set going included."""
    with FORWARD, torch.inference_mode():
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
    with FORWARD, torch.inference_mode():
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
