"""The most memory that a network's tensors hold at once."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fpgm_core.runtime.locks import FORWARD_LOCK


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
