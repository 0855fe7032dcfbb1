"""NVIDIA's FastNAS, from its own package (nvidia-modelopt, extra `bench`), as a rival.

It sorts channels by norm, measures accuracy with one layer narrowed at a time, norm statistics taken anew, and bisects
one threshold on what each may lose (https://nvidia.github.io/Model-Optimizer/guides/3_pruning.html). Its narrow network
is read back as filters of the dense one: a channel is known by its norm's weight and bias.
"""

from __future__ import annotations

import copy
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fpgm_core.allocation.goals import Goal
from fpgm_core.allocation.suggestion import Prepared
from fpgm_core.data import ImageSet
from fpgm_core.errors import FpgmError
from fpgm_core.pruning import PrunedNetwork
from fpgm_core.runtime.extras import require

NUM_IMAGES = 500  # that norm statistics are taken from before each of its measurements, made on half as many
DIVISOR = 4  # of channels: its published notebook has 16, under which a layer of 16 is never narrowed
_BISECTIONS = 10  # of its own count of operations, until ours is met
_BATCHES = 50  # that it keeps for norm statistics: with fewer it leaves them as they are


class FastNAS:
    """FastNAS on a network: measured once, then asked for any cut."""

    def __init__(self, prepared: Prepared, training: ImageSet, *, as_plan: Callable[..., PrunedNetwork]) -> None:
        self._prune = require("modelopt.torch.prune", extra="bench")
        self._prepared, self._as_plan = prepared, as_plan
        network = prepared.choices.network
        self._shape, self._dense = network.input_shape, network.module
        self._norms = {norm.after: norm.name for norm in network.flow.batch_norms if norm.after is not None}
        self._seen = training.first(min(NUM_IMAGES, len(training)))
        self._scored = training.last(min(NUM_IMAGES // 2, len(training)))
        self._folder = tempfile.TemporaryDirectory(prefix="fastnas-")

    def __call__(self, cut: float) -> PrunedNetwork:
        """The network pruned at the greatest share of its own operations that cuts as much of ours."""
        low, high, found = 0.0, 1.0, None
        for _ in range(_BISECTIONS):
            share = (low + high) / 2
            pruned = self._searched(share)
            if pruned is not None and Goal({"macs": cut}).met(pruned):
                low, found = share, pruned
            else:
                low, high = (share, high) if pruned is None else (low, share)
        if found is None:
            raise FpgmError(f"FastNAS does not cut {cut:.0%} of the MACs")
        return found

    def _searched(self, share: float) -> PrunedNetwork | None:
        """What is left of `share` of the operations; None where it finds nothing so small."""
        module = copy.deepcopy(self._dense)
        config = self._prune.fastnas.FastNASConfig()
        rules = {"nn.Conv2d": "channel_divisor", "nn.BatchNorm2d": "feature_divisor"}
        for kind, divisor in rules.items():
            config[kind]["*"][divisor] = DIVISOR
        try:
            with redirect_stdout(sys.stderr):  # it tells of itself, where JSON may be asked for
                narrow, _ = self._prune.prune(
                    module, mode=[("fastnas", config)], constraints={"flops": f"{100 * share:.4f}%"},
                    dummy_input=torch.zeros(1, *self._shape),
                    config={
                        "score_func": self._score, "forward_loop": self._read, "verbose": False,
                        "checkpoint": str(Path(self._folder.name) / "sensitivity.pth"),
                    },
                )  # fmt: skip
        except AssertionError:  # how it says that nothing it may choose is so small
            return None
        return self._as_plan(self._prepared, self._gone(narrow))

    def _read(self, module: nn.Module) -> None:
        """Images through a network, for the statistics of its norms."""
        with torch.no_grad():
            for piece in np.array_split(np.arange(len(self._seen)), _BATCHES):
                module(self._seen.normalised(int(piece[0]), int(piece[-1]) + 1))

    def _score(self, module: nn.Module) -> float:
        """Accuracy in percent on training images that the norms have not seen."""
        images = self._scored
        with torch.no_grad():
            right = module(images.normalised(0, len(images))).argmax(1) == images.labels
        return 100 * float(right.float().mean())

    def _gone(self, narrow: nn.Module) -> dict[str, set[int]]:
        """By convolution the filters of the dense network that a narrow one no longer has."""
        gone = dict[str, set[int]]()
        for name, norm in self._norms.items():
            before, after = (_affine(module.get_submodule(norm)) for module in (self._dense, narrow))
            same = (after[:, None] == before[None]).all(2)
            if not bool(same.any(1).all()):
                raise FpgmError(f"FastNAS changed the norm {norm}; its filters cannot be told apart")
            gone[name] = set(map(int, np.flatnonzero(~same.any(0).numpy())))
        return gone


def _affine(norm: Any) -> Tensor:
    """A norm's weights and biases, (channels, 2)."""
    return torch.stack([norm.weight.detach(), norm.bias.detach()], dim=1).float().cpu()
