"""Fitting what a rectifier lets through: below its threshold it does not matter how far.

A layer whose output meets a ReLU need not make the dense network's values where those come to nothing: it is enough
that its own come to nothing there. With z in place of the values that are wanted,

    z = the wanted value where the rectifier lets it through,
        the fit's own value where neither is let through, else the threshold,

least squares and z alternate (Zhang, Zou, He and Sun, Accelerating Very Deep Convolutional Networks, PAMI 2016, section
3.2): the matrix stays, so that every round costs two products. ReLU6 has a threshold above, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.fx import Node

from fpgm_core.graph import operation_of
from fpgm_core.recovery.drift import LEAST_SCALE, Sum, only_user

ROUNDS = 4
_LIMITS = {"relu": (0.0, math.inf), "relu6": (0.0, 6.0)}


@dataclass(frozen=True, eq=False)
class Samples:
    """A batch: what a layer reads, x (groups, samples, P), and what it is to make of it, y (groups, samples, N).

    `added` (groups, samples, N), if any, is added to what the norm behind makes of the output.
    """

    x: Tensor
    y: Tensor
    added: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """The bytes that it takes."""
        return sum(one.nbytes for one in (self.x, self.y, self.added) if one is not None)


class Fit(NamedTuple):
    """Weights (groups, N, P), and what is to be added behind them, (groups * N,)."""

    weight: Tensor
    offset: Tensor


@dataclass(frozen=True, eq=False)
class System:
    """A ridge least squares problem, factored: `pull` (groups, N, P) draws towards the old weights, `x` is a mean."""

    factor: Tensor
    pull: Tensor
    x: Tensor

    def solve(self, yx: Tensor, y: Tensor) -> Fit:
        """The fit to moments of y with x, (groups, N, P), and the mean of y, (groups, N)."""
        weight = torch.cholesky_solve((yx + self.pull).transpose(1, 2), self.factor).transpose(1, 2)
        return Fit(weight, (y - (weight @ self.x[:, :, None])[:, :, 0]).flatten())


@dataclass(frozen=True)
class Rectifier:
    """What a layer's output meets: a norm of that name if any, a sum if any, and a rectifier with these limits."""

    norm: str | None
    low: float
    high: float

    def fitted(self, dense: nn.Module, rows: Tensor, system: System, kept: Sequence[Samples], fit: Fit) -> Fit:
        """A fit with what does not matter behind the rectifier set free; `rows` are the layer's filters."""
        scale, shift = self._affine(dense, rows, kept[0].y)
        heard = scale.abs() > LEAST_SCALE * scale.abs().max()
        count = sum(one.x.shape[1] for one in kept)
        centred = [one.x - system.x[:, None].float() for one in kept]
        for _ in range(ROUNDS):
            weight, offset = fit.weight, fit.offset.view(len(fit.weight), 1, -1)
            offset = (offset + system.x[:, None] @ weight.transpose(1, 2)).float()
            yx, y = torch.zeros_like(weight), torch.zeros_like(weight[:, :, 0])
            for x, one in zip(centred, kept, strict=True):
                now = torch.baddbmm(offset, x, weight.float().transpose(1, 2))
                below = shift if one.added is None else shift + one.added
                z = torch.where(
                    heard, (self._wanted(scale * one.y + below, scale * now + below) - below) / scale, one.y
                )
                y += z.sum(1)
                yx += z.transpose(1, 2) @ x
            fit = system.solve(yx / count, y / count)
        return fit

    def _wanted(self, wanted: Tensor, made: Tensor) -> Tensor:
        """What to aim at: the values that are wanted, but anything beyond a limit where those are beyond it."""
        below = torch.where(wanted <= self.low, made.clamp_max(self.low), wanted)
        return below if math.isinf(self.high) else torch.where(wanted >= self.high, made.clamp_min(self.high), below)

    def _affine(self, dense: nn.Module, rows: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """What the norm makes of outputs: a scale and a shift, (groups, 1, N) each; never a scale of 0."""
        groups = len(like)
        if self.norm is None:
            return like.new_ones(groups, 1, 1).expand(groups, 1, like.shape[2]), like.new_zeros(groups, 1, 1)
        norm = dense.get_submodule(self.norm)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_var is not None
        assert norm.running_mean is not None
        scale = 1 / (norm.running_var + norm.eps).sqrt()
        scale = scale if norm.weight is None else scale * norm.weight.detach()
        shift = -scale * norm.running_mean
        shift = shift if norm.bias is None else shift + norm.bias.detach()
        scale = torch.where(scale == 0, torch.full_like(scale, 1e-12), scale)
        scale, shift = (one[rows].view(groups, 1, -1) for one in (scale, shift))
        return scale, shift


def rectifier_behind(module: nn.Module, node: Node, onto: Sum | None) -> Rectifier | None:
    """The rectifier that a layer's output alone meets, behind a norm and the sum `onto` if any; None for none."""
    modules = dict(module.named_modules(remove_duplicate=False))
    after, norm = only_user(node), None
    if after is not None and after.op == "call_module" and isinstance(modules[str(after.target)], nn.BatchNorm2d):
        norm, after = str(after.target), only_user(after)
    if onto is not None and after is not None:
        after = only_user(after)
    operation = operation_of(modules, after) if after is not None else None
    if operation is None or operation.role not in _LIMITS:
        return None
    return Rectifier(norm, *_LIMITS[operation.role])
