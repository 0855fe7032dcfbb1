"""How to train: a frozen record of everything that a run's result depends on, beside data and start."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fpgm_core.errors import FpgmError


@dataclass(frozen=True)
class Decay:
    """How the learning rate moves over a run: a factor of its peak, for each share 0..1 of the run."""

    name: str
    title: str
    factor: Callable[[float], float]


def _steps(share: float) -> float:
    return float(0.2 ** sum(share >= at for at in (0.3, 0.6, 0.8)))


def _cosine(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * share))


def _one_cycle(share: float) -> float:
    rise = 0.2
    return 0.1 + 0.9 * share / rise if share < rise else _cosine((share - rise) / (1 - rise))


_RECORDS = (
    Decay("step", "Steps: a fifth at 30%, 60% and 80% (the official recipe: epochs 60, 120, 160 of 200)", _steps),
    Decay("cosine", "Cosine, from the peak to zero", _cosine),
    Decay("one_cycle", "One cycle: up for a fifth of the run, then a cosine to zero", _one_cycle),
)
DECAYS: Mapping[str, Decay] = {record.name: record for record in _RECORDS}


@dataclass(frozen=True)
class Recipe:
    """A training recipe; defaults are for fine-tuning a pruned network.

    SGD with momentum; without `decay_norms` only weights of convolutions and Linear layers decay;
    `learning_rate` is the peak, `decay` a name of DECAYS, `warm_up` so many epochs at a tenth first.
    `distillation` is the share 0..1 of the loss that compares with the dense network's answers at
    `temperature` (Hinton et al., 2015). `augmented` images are cropped (after padding by 4) and flipped.
    The same seed gives the same run on one device.
    """

    epochs: int = 20
    learning_rate: float = 0.05
    decay: str = "one_cycle"
    warm_up: int = 0
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    decay_norms: bool = True
    batch: int = 128
    label_smoothing: float = 0.0
    distillation: float = 0.0
    temperature: float = 4.0
    augmented: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.decay not in DECAYS:
            raise FpgmError(f"unknown decay {self.decay!r}; choose one of {', '.join(DECAYS)}")
        for name, low, high in _LIMITS:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                raise FpgmError(f"{name} {value!r} is not from {low:g} to {high:g}")
        for name in ("epochs", "batch", "seed", "warm_up"):
            if not isinstance(getattr(self, name), int):
                raise FpgmError(f"{name} {getattr(self, name)!r} is not a whole number")

    def __str__(self) -> str:
        """The recipe in words, for records."""
        parts = [
            f"{self.epochs} epoch{'s' * (self.epochs > 1)}",
            f"SGD, {'Nesterov ' if self.nesterov else ''}momentum {self.momentum:g}",
            f"batch {self.batch}",
            f"learning rate {self.learning_rate:g}, {self.decay}"
            + f", {self.warm_up} epochs at a tenth" * bool(self.warm_up),
            f"weight decay {self.weight_decay:g}" + " on convolutions and Linear only" * (not self.decay_norms),
            f"label smoothing {self.label_smoothing:g}" * bool(self.label_smoothing),
            f"distillation {self.distillation:g} at {self.temperature:g}" * bool(self.distillation),
            "crop (pad 4) and flip" if self.augmented else "no augmentation",
            f"seed {self.seed}",
        ]
        return "; ".join(part for part in parts if part)

    def learning_rate_at(self, epoch: float) -> float:
        """The learning rate after `epoch` epochs, a fraction for batches within one."""
        if epoch < self.warm_up:
            return self.learning_rate / 10
        return self.learning_rate * DECAYS[self.decay].factor(min(1.0, epoch / self.epochs))


_LIMITS = (
    ("epochs", 1, 10_000), ("learning_rate", 0, 100), ("warm_up", 0, 10_000), ("momentum", 0, 1),
    ("weight_decay", 0, 1), ("batch", 1, 65_536), ("label_smoothing", 0, 1), ("distillation", 0, 1),
    ("temperature", 0.1, 100), ("seed", 0, 2**31),
)  # fmt: skip

OFFICIAL = Recipe(epochs=200, learning_rate=0.1, decay="step")
RECIPES: Mapping[str, Recipe] = {
    "finetune": Recipe(),
    "official": OFFICIAL,
    "quick": Recipe(epochs=30, learning_rate=0.4, decay="one_cycle", batch=250, decay_norms=False),
}
