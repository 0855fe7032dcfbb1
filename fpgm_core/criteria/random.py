"""The control: filters drawn by a seed."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor

from fpgm_core.criteria.criterion import Criterion, SelectionOptions, Stage


def random_scores(filters: Tensor, layer: str = "", options: SelectionOptions = SelectionOptions()) -> Tensor:
    """Numbers in 0..1, (N,) float64, that depend on the seed, the layer's name and N alone."""
    # RandomState's stream is frozen by NumPy, so a seed in a plan means the same filters everywhere.
    rng = np.random.RandomState([options.seed, zlib.crc32(layer.encode())])
    return torch.from_numpy(rng.random_sample(len(filters)))


RANDOM = Criterion(
    name="random",
    title="Random (control)",
    summary="Prunes filters drawn by a seed: what any criterion has to beat.",
    assumes="nothing",
    source="the control every comparison needs",
    options=("seed",),
    stages=(Stage(random_scores),),
)
