"""Proof of equality: the masked and the compact network compute the same, and cost what was counted."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fpgm_core.errors import FpgmError
from fpgm_core.graph import overlay
from fpgm_core.graph.cost import count_cost
from fpgm_core.pruning.compact import compact_module
from fpgm_core.pruning.masked import masked_module
from fpgm_core.pruning.network import Network
from fpgm_core.runtime.locks import FORWARD_LOCK

TOLERANCE = 1e-4  # of the largest dense logit
RANDOM_IMAGES = 8
_BATCH = 50


@dataclass(frozen=True)
class Proof:
    """What was found when the masked and the compact network answered the same images, in float32.

    `max_abs_difference` is the largest |masked - compact| of any number in their answers, `logit_scale` the largest
    |dense|, `masked_dense_difference` the largest |masked - dense|: where it is tiny, equality proves nothing.
    `same_top1` tells whether both name the same class for every image; `images` how many there were,
    `random_images` random ones among them. `macs` and `params` are counted from the plan's masks,
    `counted_macs` and `counted_params` from the compact network itself, by PyTorch's own counter.
    """

    max_abs_difference: float
    logit_scale: float
    masked_dense_difference: float
    same_top1: bool
    images: int
    random_images: int
    macs: int
    counted_macs: int
    params: int
    counted_params: int

    @property
    def equal(self) -> bool:
        """Whether both answer alike, within 1e-4 of the largest dense logit."""
        return self.max_abs_difference <= TOLERANCE * self.logit_scale

    @property
    def counted(self) -> bool:
        """Whether the compact network costs exactly what was counted from the plan's masks."""
        return self.macs == self.counted_macs and self.params == self.counted_params

    @property
    def holds(self) -> bool:
        """Whether both answer alike and the cost is what was counted."""
        return self.equal and self.counted

    @property
    def problem(self) -> str:
        """What does not hold, in words; "" where all does. Unequal and miscounted are two things."""
        found = []
        if not self.equal:
            found.append(
                f"unequal: masked and compact answers differ by up to {self.max_abs_difference:.3g}, where "
                f"{TOLERANCE * self.logit_scale:.3g} is allowed"
            )
        if not self.counted:
            found.append(
                f"miscounted: {self.macs:,} multiply-adds and {self.params:,} parameters were counted, the compact "
                f"network has {self.counted_macs:,} and {self.counted_params:,}"
            )
        return "; ".join(found)

    @property
    def tells(self) -> bool:
        """Whether pruning moved the answers by more than 100 times the tolerance: else equality says little."""
        return self.masked_dense_difference > 100 * TOLERANCE * self.logit_scale


def verify(
    network: Network,
    keep_masks: Mapping[str, np.ndarray],
    images: Tensor | None = None,
    module: nn.Module | None = None,
) -> Proof:
    """Compare the masked and the compact network on `images` (B, C, H, W), and on random ones.

    `module` stands in for the dense network where its weights were changed, by `randomised` say.

    Raises FpgmError where the masks leave nothing, or where either network's answers are not finite.
    """
    *_, proof = verify_steps(network, keep_masks, images, module)
    assert isinstance(proof, Proof)
    return proof


def verify_steps(
    network: Network,
    keep_masks: Mapping[str, np.ndarray],
    images: Tensor | None = None,
    module: nn.Module | None = None,
) -> Iterator[float | Proof]:
    """As `verify`, a batch at a time: yields the share that is done, 0..1, and last the proof."""
    dense, flow = module or network.module, network.flow
    cost = count_cost(flow, keep_masks)
    forms = dense, masked_module(dense, flow, keep_masks), compact_module(dense, flow, keep_masks)
    shape = network.input_shape
    noise = torch.randn(RANDOM_IMAGES, *shape, generator=torch.Generator().manual_seed(0))
    batches = [noise, *(images.split(_BATCH) if images is not None else ())]
    scale = difference = change = 0.0
    same = True
    for done, batch in enumerate(batches):
        yield done / len(batches)
        with FORWARD_LOCK, torch.inference_mode():
            answers = [tensors_in(form(batch)) for form in forms]
        if not all(bool(answer.isfinite().all()) for tensors in answers for answer in tensors):
            raise FpgmError("the network's answers are not finite numbers; check its weights")
        for whole, masked, compact in zip(*answers, strict=True):
            scale = max(scale, float(whole.abs().max()))
            difference = max(difference, float((masked - compact).abs().max()))
            change = max(change, float((masked - whole).abs().max()))
            if whole.ndim > 1:
                same = same and bool((masked.argmax(1) == compact.argmax(1)).all())
    yield Proof(
        difference,
        scale,
        change,
        same,
        sum(map(len, batches)),
        RANDOM_IMAGES,
        cost.macs,
        counted_macs(forms[2], shape),
        cost.params,
        sum(p.numel() for p in forms[2].parameters()),
    )


def tensors_in(answer: Any) -> list[Tensor]:
    """The tensors of a network's answer, numbers as such: those of a tuple, list, dict or dataclass in order."""
    if isinstance(answer, Tensor):
        return [answer] if answer.is_floating_point() else [answer.double()]
    if isinstance(answer, Mapping):
        answer = tuple(answer.values())
    elif is_dataclass(answer):
        answer = tuple(vars(answer).values())
    return [tensor for part in answer for tensor in tensors_in(part)] if isinstance(answer, (list, tuple)) else []


def counted_macs(module: nn.Module, input_shape: tuple[int, int, int]) -> int:
    """The multiply-adds of one image as PyTorch's counter sees them in a run, on no data (it counts 2 each)."""
    shadow = copy.deepcopy(module).to("meta")
    with FORWARD_LOCK, torch.no_grad(), FlopCounterMode(display=False) as counter:
        shadow(torch.empty(1, *input_shape, device="meta"))
    return counter.get_total_flops() // 2


def randomised(module: nn.Module, input_shape: tuple[int, int, int], seed: int = 0) -> nn.Module:
    """A copy whose norms, biases and layer scales are drawn at random, so that a difference cannot hide.

    An untrained network's norms shift nothing and its logits are next to nothing: there masked, compact and
    dense agree whatever was done. Norm statistics are measured on random images first, then disturbed,
    so that activations keep their size through many layers.
    """
    view = copy.deepcopy(overlay(module, {})).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in view.named_parameters():
        owner = view.get_submodule(name.rpartition(".")[0])
        if isinstance(owner, (nn.BatchNorm2d, nn.LayerNorm)) and name.endswith("weight"):
            parameter.data.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith("layer_scale"):
            parameter.data.uniform_(0.1, 0.5, generator=generator)
        elif parameter.ndim == 1:
            parameter.data.normal_(0, 0.2, generator=generator)
    norms = [m for m in view.modules() if isinstance(m, nn.BatchNorm2d) and m.running_mean is not None]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with FORWARD_LOCK, torch.no_grad():
        view(torch.randn(8, *input_shape, generator=generator))
    for norm in norms:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.eval()
        spread = norm.running_var.sqrt()
        norm.running_mean += 0.3 * spread * torch.randn(spread.shape, generator=generator)
        norm.running_var *= torch.empty(spread.shape).uniform_(0.7, 1.4, generator=generator)
    return view
