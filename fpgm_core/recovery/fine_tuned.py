"""Fine-tuned: trained on from what pruning left, by gradients."""

from __future__ import annotations

import threading
from pathlib import Path

from fpgm_core.data import ImageSet
from fpgm_core.pruning import PrunedNetwork
from fpgm_core.recovery.method import RecoveryContext, RecoveryMethod
from fpgm_core.recovery.recalibrated import recalibrated_work
from fpgm_core.runtime.progress import Work, within
from fpgm_core.training import Recipe, Trainer, get_schedule


def fine_tuned_work(
    pruned: PrunedNetwork,
    images: ImageSet,
    context: RecoveryContext = RecoveryContext(),
    *,
    recipe: Recipe = Recipe(),
    schedule: str = "finetune",
    watched: ImageSet | None = None,
    folder: Path | None = None,
    stop: threading.Event | None = None,
) -> Work[PrunedNetwork]:
    """Train a pruned network on `images`; each Progress has the training run so far (`training.Run`).

    A schedule that trains the compact network begins with norm statistics measured anew, unless something was
    recovered before. After every epoch accuracy on `watched` images is noted, where there are some, and a checkpoint
    goes into `folder`, from which the same call resumes. Setting `stop` ends training
    after the batches that are under way; what was reached comes back. Raises FpgmError as `Trainer` does.
    """
    if get_schedule(schedule).compact and not pruned.recovery:
        pruned = yield from within(recalibrated_work(pruned, images, context), 0.0, 0.0)
    trainer = Trainer(
        pruned,
        recipe,
        schedule=schedule,
        images=images,
        watched=watched,
        device=context.device.type,
        precision=str(context.dtype).removeprefix("torch."),
        folder=folder,
    )
    return (yield from trainer.train_work(stop=stop))


FINE_TUNED = RecoveryMethod(
    "fine_tuned",
    "Fine-tuned",
    "The network is trained on from what is left, by a recipe and a schedule.",
    fine_tuned_work,
    needs_images=True,
    trains=True,
)
