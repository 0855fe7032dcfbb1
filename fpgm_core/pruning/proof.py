"""Proof of equality: the masked and the compact network compute the same, and cost what was counted."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fpgm_core.errors import FpgmError
from fpgm_core.pruning.pruned import PrunedNetwork
from fpgm_core.runtime.locks import FORWARD_LOCK
from fpgm_core.runtime.progress import Progress, Work, run

TOLERANCE = 1e-4  # of the largest dense logit
RANDOM_IMAGES = 8
_BATCH = 50


@dataclass(frozen=True)
class Proof:
    """What was found when the masked and the compact network answered the same images, in float32.

    `max_abs_difference` is the largest |masked - compact| of any number in their answers, `logit_scale` the largest
    |dense|, `masked_dense_difference` the largest |masked - dense|: where it is tiny, equality proves nothing.
    `same_top1` tells whether both name the same class for every image; `images` how many there were,
    `random_images` random ones among them. `macs` and `params` are counted from the plan's masks (of an aligned
    compact network: and from what it carries as zeros), `counted_macs` and `counted_params` from the compact network
    itself, by PyTorch's own counter.
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

    def report(self) -> str:
        """The proof in words, a few lines."""
        return "\n".join(
            (
                f"{'equal' if self.holds else 'UNEQUAL'}: masked and compact differ by at most "
                f"{self.max_abs_difference:.3g}, where logits reach {self.logit_scale:.3g}, on {self.images} images",
                f"pruning itself moved them by {self.masked_dense_difference:.3g}"
                f"{'' if self.tells else ': too little to prove anything; try --randomise'}",
                f"MACs {self.macs:,} counted, {self.counted_macs:,} by PyTorch's counter in the compact network",
                f"parameters {self.params:,} counted, {self.counted_params:,} in the compact network",
            )
        )


def verify(pruned: PrunedNetwork, images: Tensor | None = None, **options: Any) -> Proof:
    """Compare the masked and the compact form of a pruned network. See `verify_work`, whose arguments are `options`."""
    return run(verify_work(pruned, images, **options))


def verify_work(
    pruned: PrunedNetwork,
    images: Tensor | None = None,
    *,
    num_random: int = RANDOM_IMAGES,
    aligned: bool = False,
    forms: tuple[nn.Module, nn.Module] | None = None,
) -> Work[Proof]:
    """Compare the masked and the compact form of a pruned network on `images` (B, C, H, W), and on random ones.

    The compact form is `compact(aligned=aligned)`. `forms` are the masked and the compact network, where they are at
    hand already. Both are compared with the dense network. Raises FpgmError where an answer is not finite.
    """
    dense, shape = pruned.network.module, pruned.network.input_shape
    cost = pruned.compact_cost(aligned=aligned)
    masked, compact = forms or (pruned.masked(), pruned.compact(aligned=aligned))
    noise = torch.randn(num_random, *shape, generator=torch.Generator().manual_seed(0))
    batches = [noise, *(images.split(_BATCH) if images is not None else ())]
    scale = difference = change = 0.0
    same = True
    for done, batch in enumerate(batches):
        yield Progress(done, len(batches), "comparing the compact network with the masked one")
        with FORWARD_LOCK, torch.inference_mode():
            answers = [tensors_in(_answer(form, batch)) for form in (dense, masked, compact)]
        if not all(bool(answer.isfinite().all()) for tensors in answers for answer in tensors):
            raise FpgmError("the network's answers are not finite numbers; check its weights")
        for dense_answer, masked_answer, compact_answer in zip(*answers, strict=True):
            scale = max(scale, float(dense_answer.abs().max()))
            difference = max(difference, float((masked_answer - compact_answer).abs().max()))
            change = max(change, float((masked_answer - dense_answer).abs().max()))
            if dense_answer.ndim > 1:
                same = same and bool((masked_answer.argmax(1) == compact_answer.argmax(1)).all())
    return Proof(
        max_abs_difference=difference,
        logit_scale=scale,
        masked_dense_difference=change,
        same_top1=same,
        images=sum(map(len, batches)),
        random_images=num_random,
        macs=cost.macs,
        counted_macs=counted_macs(compact, shape),
        params=cost.params,
        counted_params=sum(p.numel() for p in compact.parameters()),
    )


def _answer(form: nn.Module, images: Tensor) -> Any:
    """What a network answers; one that draws random numbers draws the same in every form."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return form(images)


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
    with FORWARD_LOCK, torch.no_grad(), torch.device("meta"), FlopCounterMode(display=False) as counter:
        shadow(torch.empty(1, *input_shape))
    return counter.get_total_flops() // 2


def randomised(pruned: PrunedNetwork, seed: int = 0) -> PrunedNetwork:
    """The same selection in a network whose norms and biases are drawn at random: see `randomised_module`."""
    network = pruned.network.with_module(randomised_module(pruned.network.module, pruned.network.input_shape, seed))
    return replace(pruned, network=network, plan=replace(pruned.plan, fingerprint=network.fingerprint), prepared=None)


def randomised_module(module: nn.Module, input_shape: tuple[int, int, int], seed: int = 0) -> nn.Module:
    """A copy whose norms, biases and layer scales are drawn at random, so that a difference cannot hide.

    An untrained network's norms shift nothing and its logits are next to nothing: there masked, compact and
    dense agree whatever was done. Norm statistics are measured on random images first, then disturbed,
    so that activations keep their size through many layers.
    """
    view = copy.deepcopy(module).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in view.named_parameters():
        owner = view.get_submodule(name.rpartition(".")[0])
        if isinstance(owner, (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)) and name.endswith("weight"):
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
