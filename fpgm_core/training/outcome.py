"""What a training run leaves: weights in dense shapes, a plan that fits them, a record with what was measured."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_safetensors
from torch import nn

from fpgm_core.data import HALVES, load_images
from fpgm_core.evaluation import correct_steps
from fpgm_core.models import fingerprint
from fpgm_core.pruning import Plan, masked_module
from fpgm_core.runtime.storage import write_atomic
from fpgm_core.training.trainer import Trainer


@dataclass(frozen=True, eq=False)
class Outcome:
    """A run's result.

    `correct` and `images` count right answers, in float32, by half of the test images ("choose", "sealed") and on
    "all". `whole` is the network in dense shapes with pruned filters at zero, and `plan` prunes just those of it;
    both are None where the compact network itself was trained.
    """

    correct: Mapping[str, int]
    images: Mapping[str, int]
    macs: int
    dense_macs: int
    params: int
    whole: nn.Module | None
    plan: Plan | None
    about: Mapping[str, Any]

    @property
    def accuracy(self) -> dict[str, dict[str, Any]]:
        """Counts and fractions by split."""
        return {
            split: {
                "correct": self.correct[split],
                "images": self.images[split],
                "accuracy": self.correct[split] / self.images[split],
            }
            for split in self.correct
        }


def outcome_steps(trainer: Trainer, data_root: Path | None = None) -> Iterator[float | Outcome]:
    """Measure what a run reached on all test images; yields the share that is done, 0..1, and last the outcome."""
    network, module = trainer.network, trainer.compact().to(trainer.device)
    sets = {split: load_images(network.dataset, split, data_root) for split in HALVES}
    total, before = sum(map(len, sets.values())), 0
    correct: dict[str, int] = {}
    for split, images in sets.items():
        for seen, right in correct_steps(module, images.to(trainer.device)):
            correct[split] = right
            yield (before + seen) / total
        before += len(images)
    cost, whole, plan = network.cost(trainer.reached()), trainer.whole(), None
    if whole is not None:
        whole = masked_module(whole, network.flow, trainer.masks)
        plan = _fitting(trainer, fingerprint(whole.state_dict()))
    about = {
        "model": network.name,
        "dataset": network.dataset,
        "recipe": str(trainer.recipe),
        "schedule": trainer.schedule.name,
        "trained_on": trainer.trained_on,
        "epochs": len(trainer.run.epochs),
        "seconds": round(sum(epoch.seconds for epoch in trainer.run.epochs), 1),
        "device": trainer.device.type,
        "training_precision": str(trainer.dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "curve": [asdict(epoch) for epoch in trainer.run.epochs],
    }
    lengths = {split: len(images) for split, images in sets.items()}
    for counts in (correct, lengths):
        counts["all"] = sum(counts.values())  # the halves are all of them
    yield Outcome(correct, lengths, cost.macs, network.dense_cost.macs, cost.params, whole, plan, about)


def _fitting(trainer: Trainer, weights: str) -> Plan:
    """A plan for the weights that were reached; every pruned filter is locked out, whatever they score now."""
    reached, network = trainer.reached(), trainer.network
    nothing = network.plan(0.0, criterion=reached.criterion, coupling=reached.coupling)
    return replace(network.plan_that_prunes(trainer.masks, like=nothing), fingerprint=weights)


def write_outcome(outcome: Outcome, folder: Path) -> list[Path]:
    """Write weights, record and, where something was pruned, plan; each file whole or not at all. Returns their paths.

    The record has the form of the bundled ones: file, SHA-256, fingerprint, accuracy by split, recipe.
    Raises FpgmError where the folder cannot be written, and for an outcome without dense shapes.
    """
    assert outcome.whole is not None, "a compact network leaves by export"
    assert outcome.plan is not None
    name = f"{outcome.about['model']}_{outcome.about['dataset']}"
    state = {key: t.contiguous() for key, t in outcome.whole.state_dict().items() if not key.endswith("_tracked")}
    content = save_safetensors(state)
    record = {
        "model": outcome.about["model"],
        "file": f"{name}.safetensors",
        "sha256": hashlib.sha256(content).hexdigest(),
        "fingerprint": outcome.plan.fingerprint,
        "dataset": outcome.about["dataset"],
        "accuracy": outcome.accuracy,
        "precision": "float32",
        "macs": outcome.macs,
        "params": outcome.params,
        **{key: value for key, value in outcome.about.items() if key not in ("model", "dataset")},
    }
    files = {f"{name}.safetensors": content, f"{name}.json": (json.dumps(record, indent=2) + "\n").encode()}
    if outcome.plan.locked_out:
        files["plan.json"] = (outcome.plan.to_json(indent=2) + "\n").encode()
    for file, data in files.items():
        write_atomic(folder / file, data)
    return [folder / file for file in files]
