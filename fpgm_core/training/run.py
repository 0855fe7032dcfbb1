"""How far a training run is: its epochs so far, and what is left."""

from __future__ import annotations

from dataclasses import dataclass

from fpgm_core.training.recipe import Recipe


@dataclass(frozen=True)
class Epoch:
    """One epoch: mean training loss, training accuracy 0..1 as seen in passing, and what followed.

    `correct` of the `images` that were watched were right after it (the pruned network's answers, its norms as
    training left them); 0 of 0 where none were watched. `changed` is the share of pruned filters that were not pruned
    an epoch before.
    """

    number: int
    loss: float
    training_accuracy: float
    learning_rate: float
    correct: int
    images: int
    changed: float
    seconds: float

    @property
    def watched_accuracy(self) -> float | None:
        """The share of the watched images that were right, 0..1; None where none were watched."""
        return self.correct / self.images if self.images else None


@dataclass(frozen=True)
class Run:
    """How far a run is: its epochs so far, and the share 0..1 of the present one that is done."""

    recipe: Recipe
    epochs: tuple[Epoch, ...] = ()
    share: float = 0.0

    @property
    def done(self) -> float:
        """The share of the whole run that is done, 0..1."""
        return min(1.0, (len(self.epochs) + self.share) / self.recipe.epochs)

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes at the pace of the last three epochs; None before the first ends."""
        if not self.epochs:
            return None
        last = [epoch.seconds for epoch in self.epochs[-3:]]
        return sum(last) / len(last) * (self.recipe.epochs - len(self.epochs) - self.share)
