"""Recovery: a plan trained, and measured before and after on both halves of the test images."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn
from torch.fx import GraphModule

from fpgm_core.data import HALVES, ImageSet
from fpgm_core.evaluation import EvaluationConfig, Figure, Repairing, measure, measure_network
from fpgm_core.pruning import Network, Plan
from fpgm_core.recovery import Mended
from fpgm_core.training.recipe import Recipe
from fpgm_core.training.trainer import Run, Trainer


@dataclass(frozen=True, eq=False)
class Recovered:
    """What training reached: the run, the compact network, and accuracy by half of the test images.

    `plan` prunes what the run pruned in the end: schedules that choose again may leave the plan they began
    with. `whole` is the trained network in dense shapes, None where the compact one itself was trained. `before` is
    the first plan recalibrated, or repaired where training began with that; `after` the trained network; both beside
    the dense one.
    """

    run: Run
    plan: Plan
    network: GraphModule
    whole: nn.Module | None
    before: Mapping[str, Figure]
    after: Mapping[str, Figure]

    def won_back(self, half: str) -> float | None:
        """The share of the accuracy lost after recalibration that training won back; None where none was lost."""
        before, after = self.before[half].accuracy.value, self.after[half].accuracy.value
        lost = self.before[half].dense_accuracy.value - before
        return (after - before) / lost if lost > 0 else None


def recover_steps(
    network: Network,
    plan: Plan,
    recipe: Recipe = Recipe(),
    schedule: str = "finetune",
    images: ImageSet | None = None,
    device: str = "auto",
    precision: str = "auto",
    folder: Path | None = None,
    stop: threading.Event | None = None,
    mended: Mended | None = None,
) -> Iterator[Run | Recovered | None]:
    """Train a plan from the loaded weights; yields how far it is, and last what was reached.

    `images` are the training images (None: those of the data set at hand), `folder` gets checkpoints and
    is gone on from. `mended` tensors, a repair's say, are what training begins with, in place of the loaded weights
    and of recalibration; `before` is then measured on them. Setting `stop` ends training after the batches it is at;
    what was reached is measured.

    Raises FpgmError as `Trainer` does.
    """
    trainer = Trainer(network, plan, recipe, schedule, images, False, device, precision, folder, mended)
    yield trainer.run
    for run in trainer.steps():
        yield run
        if stop is not None and stop.is_set():
            break
    module = trainer.compact()
    before: dict[str, Figure] = {}
    after: dict[str, Figure] = {}
    for half in HALVES:
        settings = EvaluationConfig(half, device=device, precision=precision)
        began: Iterator[Figure | Repairing | None] = (
            measure(network, plan, settings, first_figure=False)
            if mended is None
            else measure_network(network, mended.compact(network, aligned=True), settings, mended.images)
        )
        for figure in began:
            if isinstance(figure, Figure):
                before[half] = figure
            yield None
        for after[half] in measure_network(network, module, settings):
            yield None
    yield Recovered(trainer.run, trainer.reached(), module, trainer.whole(), before, after)
