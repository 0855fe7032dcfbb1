"""What a network answers with some of its tensors replaced: run from the first part that has one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fpgm_core.data import Batch, ImageSet
from fpgm_core.graph import overlay
from fpgm_core.inference import compact_on, on_device
from fpgm_core.inference.segments import segments
from fpgm_core.pruning import Network
from fpgm_core.recovery import RecoveryContext
from fpgm_core.runtime.cores import each
from fpgm_core.runtime.device import to_device
from fpgm_core.runtime.locks import FORWARD_LOCK

BATCH = 128
_PARTS = 256  # cut wherever it can be
_MEMORY = 1 << 30  # bytes that the values at all cuts may take


@dataclass(frozen=True, eq=False)
class Probe:
    """A dense network in parts, each batch normalised by its own statistics, with what goes into each part.

    Recalibrated and asked in one pass, in dense shapes: for comparing many networks that differ from one in few
    layers. `values` holds, by part and batch, what goes in; `answers` the logits, float32 (images, classes).
    """

    parts: tuple[nn.Module, ...]
    values: tuple[tuple[Tensor, ...], ...]
    answers: Tensor
    context: RecoveryContext

    @classmethod
    def of(cls, network: Network, images: ImageSet, context: RecoveryContext) -> Probe:
        """The probe of a network on `images`: as many of them as fit, whole batches; all where there are fewer."""
        module = compact_on(network.prune(0.0), context.device)
        parts = tuple(_by_batch_statistics(part) for part in segments(module, _PARTS))
        resident = on_device(images, context.device)
        begins, inputs, answers = range(0, len(images), BATCH), list[list[Tensor]](), list[Tensor]()
        room = _MEMORY
        for begin in begins:
            batch = Batch(resident, begin, min(begin + BATCH, len(images)), device=context.device)
            value, seen = batch.normalised(), list[Tensor]()
            for part in parts:
                seen.append(value)
                value = _run(part, value, context)
            room -= sum(one.nbytes for one in seen)
            if room < 0 and inputs:
                break
            inputs.append(seen)
            answers.append(value.float().cpu())
        return cls(parts, tuple(zip(*inputs, strict=True)), torch.cat(answers), context)

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The logits, float32 (images, classes) on the CPU, with the named parameters replaced."""
        changed = [any(name in tensors for name, _ in part.named_parameters()) for part in self.parts]
        if not any(changed):
            return self.answers
        first = changed.index(True)
        placed = {name: tensor.to(self.context.device) for name, tensor in tensors.items()}
        parts = [
            to_device(overlay(part, placed), self.context.device) if has else part
            for part, has in zip(self.parts[first:], changed[first:], strict=True)
        ]

        def answer(value: Tensor) -> Tensor:
            for part in parts:
                value = _run(part, value, self.context)
            return value.float().cpu()

        with FORWARD_LOCK:
            return torch.cat(each(answer, self.values[first], self.context.device))


def _run(part: nn.Module, value: Tensor, context: RecoveryContext) -> Tensor:
    low = torch.autocast(context.device.type, context.dtype, enabled=context.dtype != torch.float32)
    with torch.inference_mode(), low:
        result: Tensor = part(value)
        return result


def _by_batch_statistics(part: nn.Module) -> nn.Module:
    """The same part with norms that keep no statistics: every batch is normalised by its own."""
    view = overlay(part, {})
    for norm in view.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.track_running_stats = False
            norm.running_mean = norm.running_var = None
    return view
